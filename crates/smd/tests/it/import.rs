//! `smd import authors`: from a file of theirs to a checkpoint of ours that computes the same.

use crate::close::assert_close;
use crate::golden;
use burn::tensor::Device;
use smd::checkpoint::{Checkpoint, Weights};
use smd::import::TensorFile;
use smd::import::authors::{self, Options};
use smd::nn::params;
use smd::verify::{Tolerance, verify};

/// The sizes of `authors_tiny.pt`, see `reference/gen_authors_pt.py`; a `.pt` does not hold them.
fn tiny() -> Options {
    Options {
        heads: Some(2),
        groups: Some(2),
        size: Some(8),
        ..Options::default()
    }
}

#[test]
fn a_checkpoint_of_their_trainer_computes_what_theirs_does() {
    let imported = authors::read(&golden("authors_tiny.pt"), &tiny()).unwrap();
    assert_eq!(imported.state.step, 70);
    assert_eq!(imported.config.schedule.steps, 100);
    assert_eq!(imported.config.train.ema, [0.995]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.safetensors");
    imported.write(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.config(), &imported.config);
    let device = Device::default();
    let denoiser = checkpoint.denoiser(&Weights::Raw, &device).unwrap();
    let reference = golden("authors_tiny.safetensors");
    let config = checkpoint.config();
    let found = verify(&denoiser, config, &reference, Tolerance::default(), &device).unwrap();
    let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["x_t", "z_t", "v", "loss"]);
    for one in found {
        assert!(one.agrees, "{one:?}");
    }
}

#[test]
fn the_average_is_read_from_its_half_of_the_file() {
    let imported = authors::read(&golden("authors_tiny.pt"), &tiny()).unwrap();
    let reference = TensorFile::open(&golden("authors_tiny.safetensors")).unwrap();
    let name = "model.final_conv.bias";
    let place = imported
        .infos
        .iter()
        .position(|info| info.name == name)
        .unwrap();
    let start: usize = imported.infos[..place].iter().map(params::Info::len).sum();
    let average = &imported.state.emas[0][start..][..imported.infos[place].len()];
    let theirs = reference.numbers(&format!("average.{name}")).unwrap();
    assert_close(name, average, &theirs, 0.0, 0.0);
    assert_ne!(imported.state.emas[0], imported.state.weights);
}

#[test]
fn sizes_come_from_the_config_that_main_py_writes_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model-1.pt");
    std::fs::copy(golden("authors_tiny.pt"), &path).unwrap();
    let notes = r#"{"attn_heads": 2, "head_dim": 4, "resnet_groups": 2, "img_size": 8,
        "exp_scale": 1, "hidden_dim": 8, "data_dir": "cifar", "multi_nums": null}"#;
    std::fs::write(folder.path().join("config.json"), notes).unwrap();
    // exp_scale 1 gives g_phi 1 head of 2, but its tensors have room for 8.
    let message = authors::read(&path, &Options::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("--latent-heads and --latent-d-head"),
        "{message}"
    );
    let options = Options {
        latent_d_head: Some(8),
        ..Options::default()
    };
    let config = authors::read(&path, &options).unwrap().config;
    let expected = authors::read(&golden("authors_tiny.pt"), &tiny())
        .unwrap()
        .config;
    assert_eq!(config, expected);
}

#[test]
fn betas_of_another_schedule_are_noticed() {
    for options in [
        Options {
            steps: Some(50),
            ..tiny()
        },
        Options {
            schedule: Some(smd::schedule::ScheduleKind::Cosine),
            ..tiny()
        },
    ] {
        let error = authors::read(&golden("authors_tiny.pt"), &options).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("--schedule and --steps"), "{message}");
    }
}
