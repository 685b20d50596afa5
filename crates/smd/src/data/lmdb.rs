//! Pictures in an LMDB, as LSUN is published: a value is an encoded image, a key its name.
//!
//! The database is only read, and as bytes: pages are followed from the root, every offset is checked, and no
//! file, however damaged, can do more than be refused. (Memory maps, which LMDB itself reads by, cannot be
//! safe against that.) Keys come in their own order, which is that of their bytes.
//!
//! Source: `mdb.c` of OpenLDAP, data format 1; numbers of 64 bits, little endian.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::pictures::{Entries, MOST_BYTES};
use crate::error::DataError;

/// What a database begins with, behind the header of its page.
const MAGIC: u32 = 0xbeef_c0de;

/// The data format that is read.
const VERSION: u32 = 1;

/// Length of a page's header.
const HEADER: usize = 16;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;

/// Of a node: its value lies on pages of its own.
const BIG: u16 = 0x01;

/// Of no page: the root of a database without entries.
const NO_PAGE: u64 = u64::MAX;

/// Deepest tree: each level has at least two pages.
const DEEPEST: usize = 48;

/// A database and where its values are.
pub(super) struct Lmdb {
    path: PathBuf,
    names: Vec<PathBuf>,
    /// First byte and length of each value.
    places: Vec<(u64, u64)>,
    file: Mutex<File>,
}

/// The file of a database in a folder as LMDB makes it.
pub(super) const FILE: &str = "data.mdb";

impl Lmdb {
    /// Reads all keys; `path` is the file, or the folder that holds `data.mdb`.
    ///
    /// # Errors
    /// A file that is no LMDB, of another format, or damaged.
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let at = if path.is_dir() {
            path.join(FILE)
        } else {
            path.to_owned()
        };
        let mut file = File::open(&at).map_err(|source| DataError::Read {
            path: at.clone(),
            source,
        })?;
        let entries = Reader::new(&mut file).and_then(|mut reader| reader.entries());
        let entries = entries.map_err(|problem| DataError::Archive {
            path: at,
            source: problem.into(),
        })?;
        let name = |key: &[u8]| path.join(String::from_utf8_lossy(key).as_ref());
        Ok(Self {
            path: path.to_owned(),
            names: entries.iter().map(|entry| name(&entry.key)).collect(),
            places: entries
                .iter()
                .map(|entry| (entry.first, entry.length))
                .collect(),
            file: Mutex::new(file),
        })
    }
}

impl Entries for Lmdb {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> &[PathBuf] {
        &self.names
    }

    fn read(&self, i: usize) -> Result<Vec<u8>, DataError> {
        let (first, length) = self.places[i];
        let mut bytes = vec![0; length as usize];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let read = file
            .seek(SeekFrom::Start(first))
            .and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|source| DataError::Read {
            path: self.names[i].clone(),
            source,
        })?;
        Ok(bytes)
    }
}

/// A key and where its value is.
struct Entry {
    key: Vec<u8>,
    first: u64,
    length: u64,
}

/// Reads pages of anything that can be read: fuzzing gives it bytes.
struct Reader<R> {
    file: R,
    length: u64,
    page_size: usize,
    root: u64,
}

type Problem = String;

impl<R: Read + Seek> Reader<R> {
    /// Finds the newer of the two roots.
    fn new(mut file: R) -> Result<Self, Problem> {
        let length = file
            .seek(SeekFrom::End(0))
            .map_err(|error| error.to_string())?;
        let mut reader = Self {
            file,
            length,
            page_size: HEADER + 136,
            root: NO_PAGE,
        };
        let first = reader
            .meta(0)
            .map_err(|problem| format!("it is no LMDB: {problem}"))?;
        reader.page_size = first.page_size;
        // A database that was never written to again may have only one that is valid.
        let second = reader.meta(first.page_size as u64).ok();
        let newest = match second {
            Some(second) if second.transaction > first.transaction => second,
            _ => first,
        };
        reader.root = newest.root;
        Ok(reader)
    }

    fn meta(&mut self, first: u64) -> Result<Meta, Problem> {
        let page = self.bytes(first, HEADER + 136)?;
        let meta = &page[HEADER..];
        if u32_at(meta, 0) != MAGIC {
            return Err(format!("{:08x} where {MAGIC:08x} belongs", u32_at(meta, 0)));
        }
        if u32_at(meta, 4) != VERSION {
            return Err(format!(
                "data format {}, expected {VERSION}",
                u32_at(meta, 4)
            ));
        }
        // The size of pages is kept where the first of two databases has its padding.
        let page_size = u32_at(meta, 24) as usize;
        if !page_size.is_power_of_two() || !(512..=65_536).contains(&page_size) {
            return Err(format!("pages of {page_size} bytes"));
        }
        Ok(Meta {
            page_size,
            root: u64_at(meta, 24 + 48 + 40),
            transaction: u64_at(meta, 24 + 2 * 48 + 8),
        })
    }

    /// All entries, by their keys.
    fn entries(&mut self) -> Result<Vec<Entry>, Problem> {
        let mut entries = vec![];
        if self.root != NO_PAGE {
            // Each page once: a damaged tree may have circles.
            let mut left = self.length / self.page_size as u64;
            self.visit(self.root, 0, &mut left, &mut entries)?;
        }
        Ok(entries)
    }

    fn visit(
        &mut self,
        page: u64,
        depth: usize,
        left: &mut u64,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Problem> {
        if depth > DEEPEST || *left == 0 {
            return Err(format!("page {page} is reached twice"));
        }
        *left -= 1;
        let (number, bytes) = (page, self.page(page)?);
        let (flags, lower) = (u16_at(&bytes, 10), usize::from(u16_at(&bytes, 12)));
        if lower < HEADER || lower > bytes.len() {
            return Err(format!("page {number} has nodes up to byte {lower}"));
        }
        for i in 0..(lower - HEADER) / 2 {
            let at = usize::from(u16_at(&bytes, HEADER + 2 * i));
            let node = bytes.get(at..).filter(|node| node.len() >= 8);
            let node = node.ok_or_else(|| format!("page {number} has a node at byte {at}"))?;
            if flags & LEAF != 0 {
                entries.push(self.leaf(number, at, node)?);
            } else if flags & BRANCH != 0 {
                let child = u64::from(u32_at(node, 0)) | u64::from(u16_at(node, 4)) << 32;
                self.visit(child, depth + 1, left, entries)?;
            } else {
                return Err(format!("page {number} is of the unknown kind {flags:#x}"));
            }
        }
        Ok(())
    }

    fn leaf(&mut self, page: u64, at: usize, node: &[u8]) -> Result<Entry, Problem> {
        let (length, flags) = (u64::from(u32_at(node, 0)), u16_at(node, 4));
        let key_length = usize::from(u16_at(node, 6));
        let key = node.get(8..8 + key_length);
        let key = key.ok_or_else(|| format!("page {page} has a key of {key_length} bytes"))?;
        let key = key.to_vec();
        let name = || String::from_utf8_lossy(&key).into_owned();
        let first = match flags {
            0 => page * self.page_size as u64 + (at + 8 + key_length) as u64,
            BIG => {
                let number = node.get(8 + key_length..16 + key_length);
                let number = number.ok_or_else(|| format!("{} has no page", name()))?;
                let value = u64_at(number, 0);
                let header = self.page(value)?;
                if u16_at(&header, 10) & OVERFLOW == 0 {
                    return Err(format!(
                        "{} lies on page {value}, which holds no value",
                        name()
                    ));
                }
                value * self.page_size as u64 + HEADER as u64
            }
            _ => {
                return Err(format!(
                    "{} has several values; LSUN has one for a key",
                    name()
                ));
            }
        };
        if length > MOST_BYTES
            || first
                .checked_add(length)
                .is_none_or(|past| past > self.length)
        {
            return Err(format!(
                "{} has {length} bytes, more than there are",
                name()
            ));
        }
        Ok(Entry { key, first, length })
    }

    fn page(&mut self, page: u64) -> Result<Vec<u8>, Problem> {
        let first = page.checked_mul(self.page_size as u64);
        let first = first.ok_or_else(|| format!("there is no page {page}"))?;
        self.bytes(first, self.page_size)
    }

    fn bytes(&mut self, first: u64, length: usize) -> Result<Vec<u8>, Problem> {
        if first
            .checked_add(length as u64)
            .is_none_or(|past| past > self.length)
        {
            return Err(format!(
                "it ends before byte {first} + {length}: it is cut short"
            ));
        }
        let mut bytes = vec![0; length];
        let read = self
            .file
            .seek(SeekFrom::Start(first))
            .and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

struct Meta {
    page_size: usize,
    root: u64,
    transaction: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::super::{ReadOptions, chain, open};
    use super::*;
    use std::io::Cursor;

    fn golden() -> Vec<u8> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/lsun.mdb");
        std::fs::read(path).unwrap()
    }

    fn written(bytes: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), bytes).unwrap();
        folder
    }

    #[test]
    fn pictures_are_those_that_were_put_in() {
        let folder = written(&golden());
        let images = open(folder.path(), &ReadOptions::default()).unwrap();
        assert_eq!((images.len(), images.shape()), (120, [32, 32, 3]));
        for i in 0..120 {
            let pixel = |at: usize| {
                let (x, y, c) = (at / 3 % 32, at / 96, at % 3);
                ((7 * x + 13 * y + 29 * c + 31 * i) % 256) as u8
            };
            let expected: Vec<u8> = (0..32 * 32 * 3).map(pixel).collect();
            assert_eq!(images.image(i), expected, "picture {i}");
        }
        let file = open(&folder.path().join(FILE), &ReadOptions::default()).unwrap();
        assert_eq!(file, images);
    }

    #[test]
    fn a_database_cut_short_or_of_another_kind_is_named() {
        let whole = golden();
        for kept in [0, 100, 5000, whole.len() / 2] {
            let folder = written(&whole[..kept]);
            let text = chain(&open(folder.path(), &ReadOptions::default()).unwrap_err());
            assert!(
                text.contains("data.mdb is damaged or cut short"),
                "{kept}: {text}"
            );
        }
        let folder = written(&[7; 9000]);
        let text = chain(&open(folder.path(), &ReadOptions::default()).unwrap_err());
        assert!(text.contains("it is no LMDB: 07070707"), "{text}");
    }

    #[test]
    fn a_damaged_value_is_named_by_its_key() {
        let mut bytes = golden();
        let at = bytes.windows(4).rposition(|four| four == b"RIFF").unwrap();
        bytes[at..at + 4].copy_from_slice(b"RIFT");
        let folder = written(&bytes);
        let text = chain(&open(folder.path(), &ReadOptions::default()).unwrap_err());
        assert!(text.contains("is not a readable image"), "{text}");
        let options = ReadOptions {
            skip_bad: true,
            ..ReadOptions::default()
        };
        let images = open(folder.path(), &options).unwrap();
        assert_eq!((images.len(), images.skipped.len()), (119, 1));
    }

    /// Every byte of the trees turned over, one at a time: refused or read, without a panic.
    #[test]
    fn damage_anywhere_is_no_panic() {
        let whole = golden();
        for at in 0..whole.len().min(9 * 4096) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            if let Ok(mut reader) = Reader::new(Cursor::new(&bytes)) {
                let _ = reader.entries();
            }
        }
    }
}
