//! Event files that TensorBoard reads: `events.out.tfevents.<seconds>.<host>.<number>`.
//!
//! A file is a row of records (TensorFlow's `RecordWriter`), each one an `Event` in protocol buffers
//! (tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto).

mod messages;
mod record;

use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use image::{ImageFormat, RgbImage};
use prost::Message;

use messages::{Event, Image, SessionLog, Summary, Value, event::What, value};

/// How the names of event files begin.
const PREFIX: &str = "events.out.tfevents.";
/// The session begins here: TensorBoard forgets what older files say of this step and later.
const START: i32 = 1;
/// A picture in red, green and blue.
const RGB: i32 = 3;

/// One open event file; every record is handed to the system as a whole.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Begins the first file of a run.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        let (newest, count) = existing(folder)?;
        let host = gethostname::gethostname()
            .to_string_lossy()
            .replace('/', "-");
        // TensorBoard reads the files in the order of their names, also where a clock was set back.
        let seconds = (now() as u64).max(newest + 1);
        let path = folder.join(format!("{PREFIX}{seconds:010}.{host}.{count}"));
        let file = File::create_new(&path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        let mut writer = Self { path, file };
        writer.write(0, What::FileVersion("brain.Event:2".into()))?;
        Ok(writer)
    }

    /// Begins another file after `step`; what older files say of later steps is forgotten.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn resume(folder: &Path, step: u64) -> Result<Self> {
        let mut writer = Self::create(folder)?;
        writer.write(step + 1, What::SessionLog(SessionLog { status: START }))?;
        Ok(writer)
    }

    /// Adds numbers, each under its tag, e.g. "train/loss".
    ///
    /// # Errors
    /// A disk that is full or gone.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        let value = |(tag, number): &(&str, f64)| Value {
            tag: (*tag).into(),
            value: Some(value::Value::Simple(*number as f32)),
        };
        let value = scalars.iter().map(value).collect();
        self.write(step, What::Summary(Summary { value }))
    }

    /// Adds a picture.
    ///
    /// # Errors
    /// A disk that is full or gone.
    pub fn image(&mut self, step: u64, tag: &str, picture: &RgbImage) -> Result<()> {
        let mut png = Cursor::new(Vec::new());
        picture
            .write_to(&mut png, ImageFormat::Png)
            .context("a PNG in memory")?;
        let image = Image {
            height: picture.height() as i32,
            width: picture.width() as i32,
            colorspace: RGB,
            encoded_image_string: png.into_inner(),
        };
        let value = Value {
            tag: tag.into(),
            value: Some(value::Value::Image(image)),
        };
        self.write(step, What::Summary(Summary { value: vec![value] }))
    }

    fn write(&mut self, step: u64, what: What) -> Result<()> {
        let event = Event {
            wall_time: now(),
            step: step as i64,
            what: Some(what),
        };
        let record = record::frame(&event.encode_to_vec());
        let written = self.file.write_all(&record);
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// The largest number of seconds in a name of an event file, and how many files there are.
fn existing(folder: &Path) -> Result<(u64, usize)> {
    let read = || format!("cannot read {}", folder.display());
    let (mut newest, mut count) = (0, 0);
    for entry in fs::read_dir(folder).with_context(read)? {
        let name = entry.with_context(read)?.file_name();
        if let Some(rest) = name.to_string_lossy().strip_prefix(PREFIX) {
            let seconds = rest
                .split('.')
                .next()
                .and_then(|seconds| seconds.parse().ok());
            newest = newest.max(seconds.unwrap_or(0));
            count += 1;
        }
    }
    Ok((newest, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(path: &Path) -> Vec<Event> {
        let records = record::unframe(&fs::read(path).unwrap());
        records
            .iter()
            .map(|record| Event::decode(record.as_slice()).unwrap())
            .collect()
    }

    #[test]
    fn numbers_and_pictures_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path()).unwrap();
        writer
            .scalars(7, &[("train/loss", 0.25), ("train/lr", 2e-4)])
            .unwrap();
        let picture = RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 9]));
        writer.image(8, "samples", &picture).unwrap();

        let events = events(&writer.path);
        assert_eq!(
            events[0].what,
            Some(What::FileVersion("brain.Event:2".into()))
        );
        assert!(events.iter().all(|event| event.wall_time > 1.7e9));
        let Some(What::Summary(summary)) = &events[1].what else {
            panic!("a summary")
        };
        assert_eq!(
            (events[1].step, summary.value[0].tag.as_str()),
            (7, "train/loss")
        );
        assert_eq!(summary.value[0].value, Some(value::Value::Simple(0.25)));
        assert_eq!(summary.value[1].value, Some(value::Value::Simple(2e-4)));
        let Some(What::Summary(summary)) = &events[2].what else {
            panic!("a summary")
        };
        let Some(value::Value::Image(image)) = &summary.value[0].value else {
            panic!("an image")
        };
        assert_eq!((image.width, image.height), (5, 3));
        let read = image::load_from_memory(&image.encoded_image_string).unwrap();
        assert_eq!(read.into_rgb8(), picture);
    }

    #[test]
    fn a_resumed_run_begins_a_file_that_sorts_last() {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = vec![EventWriter::create(folder.path()).unwrap().path];
        for _ in 0..11 {
            let writer = EventWriter::resume(folder.path(), 30).unwrap();
            let start = &events(&writer.path)[1];
            assert_eq!(start.step, 31);
            assert_eq!(
                start.what,
                Some(What::SessionLog(SessionLog { status: START }))
            );
            paths.push(writer.path);
        }
        assert!(paths.is_sorted(), "{paths:?}");
    }

    /// For a look with TensorBoard itself.
    #[test]
    fn leaves_an_example_where_asked() {
        let Some(folder) = std::env::var_os("SMD_EXAMPLE_OUTPUT") else {
            return;
        };
        let folder = Path::new(&folder);
        let picture = RgbImage::from_pixel(40, 30, image::Rgb([200, 30, 60]));
        let mut writer = EventWriter::create(folder).unwrap();
        for step in 1..=50 {
            writer
                .scalars(step, &[("train/loss", 1.0 / step as f64)])
                .unwrap();
        }
        writer.image(50, "samples", &picture).unwrap();
        let mut writer = EventWriter::resume(folder, 30).unwrap();
        for step in 31..=60 {
            writer
                .scalars(step, &[("train/loss", 2.0 / step as f64)])
                .unwrap();
        }
        writer.image(60, "samples", &picture).unwrap();
    }
}
