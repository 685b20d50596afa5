//! TensorFlow's record file.
//!
//! ```text
//! u64 length | u32 masked crc32c of the length | data | u32 masked crc32c of the data
//! ```
//! All little-endian; see tensorflow/core/lib/io/record_writer.h and tensorflow/core/lib/hash/crc32c.h.

/// One record.
pub fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let checks = [masked(&length), masked(data)].map(u32::to_le_bytes);
    [&length[..], &checks[0], data, &checks[1]].concat()
}

/// The checksum, moved so that a checksum of data that holds checksums stays sound.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// The data of all records; panics where a checksum is wrong.
#[cfg(test)]
pub fn unframe(mut file: &[u8]) -> Vec<Vec<u8>> {
    fn take<'a>(file: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = file.split_at(count);
        *file = rest;
        taken
    }
    let mut records = Vec::new();
    while !file.is_empty() {
        let length = take(&mut file, 8);
        assert_eq!(take(&mut file, 4), masked(length).to_le_bytes());
        let data = take(
            &mut file,
            u64::from_le_bytes(length.try_into().unwrap()) as usize,
        );
        assert_eq!(take(&mut file, 4), masked(data).to_le_bytes());
        records.push(data.to_vec());
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_castagnoli() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        // ((c >> 15) | (c << 17)) + 0xa282ead8
        assert_eq!(masked(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn records_come_back() {
        let records: [&[u8]; 3] = [b"", b"a", &[7; 300]];
        let file: Vec<u8> = records.iter().flat_map(|data| frame(data)).collect();
        assert_eq!(file.len(), 3 * 16 + 301);
        assert_eq!(unframe(&file), records);
    }
}
