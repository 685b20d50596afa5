use super::*;
use crate::config;

fn config() -> RunConfig {
    let settings = [
        "net.dim=8".into(),
        "net.blocks=1".into(),
        "train.ema=[0.9, 0.99]".into(),
    ];
    let mut config = config::set(config::preset("gmm-7x7").unwrap(), "preset", &settings).unwrap();
    config.data.shape = Some([1, 1, 2]);
    config
}

fn saved(folder: &Path) -> (PathBuf, State, Vec<Info>) {
    let config = config();
    let infos = params::infos(&config.denoiser(&Device::default()).unwrap());
    let len: usize = infos.iter().map(Info::len).sum();
    let row = |scale: f32| (0..len).map(|i| i as f32 * scale).collect::<Vec<_>>();
    let state = State {
        step: 7,
        data: Some("5 images (crc32c 0123abcd)".into()),
        influence: vec![(1, 0.25), (8, 0.0)],
        weights: row(1.0),
        emas: vec![row(2.0), row(3.0)],
        moments: Some([row(4.0), row(5.0)]),
    };
    let path = folder.join("a.safetensors");
    Checkpoint::write(&path, &config, &infos, &state).unwrap();
    (path, state, infos)
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (path, state, infos) = saved(folder.path());
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.config(), &config());
    assert_eq!(checkpoint.state(&infos, &[0.9, 0.99]).unwrap(), state);
    assert_eq!(checkpoint.emas(), ["0.9", "0.99"]);
    // Nothing else is left in the folder.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_model_gets_the_weights_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (path, state, _) = saved(folder.path());
    let checkpoint = Checkpoint::open(&path).unwrap();
    let device = Device::default();
    let first = |weights: Weights| {
        let model = checkpoint.denoiser(&weights, &device).unwrap();
        crate::host::numbers(Tensor::cat(params::values(&model), 0))
    };
    assert_eq!(first(Weights::Raw), state.weights);
    assert_eq!(first(Weights::Ema("0.9".into())), state.emas[0]);
    assert_eq!(first(Weights::Ema("0.90".into())), state.emas[0]);
    assert_eq!(first(Weights::Best), state.emas[1]);
    let error = checkpoint
        .denoiser(&Weights::Ema("0.5".into()), &device)
        .unwrap_err();
    assert!(
        error.to_string().contains("it has 0.9, 0.99, none"),
        "{error}"
    );
}

#[test]
fn a_checkpoint_cut_off_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _, _) = saved(folder.path());
    let bytes = fs::read(&path).unwrap();
    for len in [0, 4, 9, 200, bytes.len() / 2, bytes.len() - 1] {
        let cut = folder.path().join("cut.safetensors");
        fs::write(&cut, &bytes[..len]).unwrap();
        let error = Checkpoint::open(&cut).unwrap_err().to_string();
        assert!(
            error.contains("cut.safetensors is cut off or no checkpoint"),
            "{len}: {error}"
        );
    }
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _, _) = saved(folder.path());
    let text = fs::read(&path).unwrap();
    let newer = replace(&text, b"\"smd.format\":\"1\"", b"\"smd.format\":\"9\"");
    fs::write(&path, newer).unwrap();
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("has format 9, this program reads up to 1; update smd"),
        "{error}"
    );
}

#[test]
fn a_checkpoint_of_another_shape_names_the_parameter() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _, _) = saved(folder.path());
    let bytes = fs::read(&path).unwrap();
    // The config inside says another width, of as many characters.
    fs::write(&path, replace(&bytes, b"dim = 8", b"dim = 6")).unwrap();
    let error = Checkpoint::open(&path)
        .unwrap()
        .denoiser(&Weights::Best, &Device::default());
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains("model.stem.weight has shape [8, "),
        "{message}"
    );
    assert!(message.contains("this model needs [6, "), "{message}");
}

#[test]
fn a_folder_that_cannot_be_written_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("a.safetensors");
    let state = State {
        weights: Vec::new(),
        ..State::default()
    };
    let error = Checkpoint::write(&path, &config(), &[], &state)
        .unwrap_err()
        .to_string();
    assert!(error.contains("check space and permission"), "{error}");
}

#[test]
fn a_run_folder_means_its_newest_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _, _) = saved(folder.path());
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("is no run and no checkpoint: it has no checkpoints/; name a run's folder"),
        "{error}"
    );
    let inside = folder.path().join("checkpoints");
    fs::create_dir(&inside).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("has not saved yet"), "{error}");
    for step in [2, 10] {
        fs::copy(&path, inside.join(file_name(step))).unwrap();
    }
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(checkpoint.path().ends_with("step-000000010.safetensors"));
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .unwrap();
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}
