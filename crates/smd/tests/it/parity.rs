//! Values and gradients of networks, held against PyTorch's.
//!
//! Files in `tests/golden`, made by the authors' code and by `reference/gen_ddpm_unet.py`. A gradient
//! is a sum over all pixels and layers, in another order than PyTorch's: 1e-3 of its largest number.

use crate::close::{assert_close, assert_close_to_largest};
use crate::golden;
use burn::tensor::{Device, Tensor, TensorData};
use smd::config::RunConfig;
use smd::denoise::{Denoise, Denoiser};
use smd::host;
use smd::import::{TensorFile, authors};
use smd::nn::{Dropout, params};
use smd::objective;
use smd::process::Prediction;

fn filled(denoiser: Denoiser, numbers: &[f32], device: &Device) -> Denoiser {
    let mut rest = numbers;
    let rows: Vec<Tensor<1>> = params::infos(&denoiser)
        .iter()
        .map(|info| {
            let (row, after) = rest.split_at(info.len());
            rest = after;
            Tensor::from_data(TensorData::new(row.to_vec(), [row.len()]), device)
        })
        .collect();
    params::with_values(denoiser, &rows)
}

/// `[B, C, H, W]` of the file as `[B, H, W, C]`.
fn image(file: &TensorFile, name: &str, device: &Device) -> Tensor<4> {
    let shape: [usize; 4] = file.shape(name).unwrap().try_into().unwrap();
    let data = TensorData::new(file.numbers(name).unwrap(), shape);
    Tensor::<4>::from_data(data, device).permute([0, 2, 3, 1])
}

fn steps(file: &TensorFile) -> Vec<usize> {
    let t = file.whole_numbers("input.t").unwrap();
    t.into_iter().map(|t| t as usize + 1).collect()
}

fn numbers_nchw(x: Tensor<4>) -> Vec<f32> {
    host::numbers(x.permute([0, 3, 1, 2]))
}

/// Holds every `grad.*` of the file against ours, by `their_name`; returns how many, and the worst.
fn assert_gradients(
    file: &TensorFile,
    denoiser: &Denoiser,
    loss: Tensor<1>,
    their_name: impl Fn(&str) -> String,
) -> (usize, f64) {
    let mut grads = loss.backward();
    let rows = params::gradients(denoiser, &mut grads);
    let (mut count, mut worst) = (0, 0.0);
    for (info, row) in params::infos(denoiser).iter().zip(rows) {
        let name = format!("grad.{}", their_name(&info.name));
        if file.shape(&name).is_none() {
            continue;
        }
        count += 1;
        let ours = host::numbers(row.expect("the loss reaches every parameter"));
        let theirs = file.numbers(&name).unwrap();
        if name.ends_with("to_k.bias") {
            // Zero: softmax ignores a shift that all keys share.
            assert_close(&name, &ours, &theirs, 0.0, 1e-7);
        } else {
            let share = assert_close_to_largest(&name, &ours, &theirs, 1e-3);
            worst = f64::max(worst, share);
        }
    }
    let all = file
        .names()
        .iter()
        .filter(|name| name.starts_with("grad."))
        .count();
    assert_eq!(
        count, all,
        "gradients of the file that have no parameter of ours"
    );
    (count, worst)
}

#[test]
fn soft_mixture_is_that_of_the_authors() {
    let path = golden("official_smd.safetensors");
    let imported = authors::read(&path, &authors::Options::default()).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let device = Device::default().autodiff();
    let denoiser = imported.config.denoiser(&device).unwrap();
    let denoiser = filled(denoiser, &imported.state.weights, &Device::default());
    let Denoiser::SoftMixture(kernel) = &denoiser else {
        panic!("no soft mixture")
    };
    let process = denoiser.process();

    let t = steps(&file);
    let x_0 = image(&file, "input.x_0", &device) * 2.0 - 1.0;
    let (eps, eta) = (
        image(&file, "input.eps", &device),
        image(&file, "input.eta", &device),
    );
    let x_t = process.q_sample(x_0.clone(), &t, eps.clone());
    let z_t = kernel.latent(x_t.clone(), &t, eta.clone());
    let v = kernel.forward(x_t.clone(), &t, eta, &mut Dropout::off());
    let objective = imported.config.objective(1);
    let target = process.target(Prediction::V, x_0, &t, eps);
    let loss =
        objective::weighted_square(process, &objective, Prediction::V, &t, v.clone(), target);

    for (name, ours) in [("x_t", x_t), ("z_t", z_t), ("v", v)] {
        let theirs = file.numbers(&format!("expected.{name}")).unwrap();
        let worst = assert_close(name, &numbers_nchw(ours), &theirs, 1e-4, 1e-5);
        println!("{name}: {worst:.1e}");
    }
    let theirs = file.numbers("expected.loss").unwrap();
    let worst = assert_close("loss", &host::numbers(loss.clone()), &theirs, 1e-4, 1e-5);
    println!("loss: {worst:.1e}");
    // The gradients in the file belong to layers that have the same name in both.
    let (count, worst) = assert_gradients(&file, &denoiser, loss, str::to_owned);
    println!("{count} gradients: {worst:.1e} of the largest number");
    assert!(count > 20);
}

#[test]
fn ddpm_unet_is_that_of_diffusers() {
    let config = r#"
        data.shape = [16, 16, 3]
        schedule.kind = "linear"
        [net]
        kind = "ddpm-unet"
        dim = 16
        multipliers = [1, 2]
        blocks = 2
        attention = [8]
        groups = 4
        dropout = 0.0
        [objective]
        prediction = "eps"
        weight = "simple"
    "#;
    let config = RunConfig::from_toml(config, "test").unwrap();
    let file = TensorFile::open(&golden("ddpm_unet.safetensors")).unwrap();
    let device = Device::default().autodiff();
    let denoiser = config.denoiser(&device).unwrap();
    let infos = params::infos(&denoiser);
    let mut weights = Vec::new();
    for info in &infos {
        let found = file
            .shape(&info.name)
            .unwrap_or_else(|| panic!("no {}", info.name));
        // A 1x1 convolution is a linear map of the channels.
        let found = found.strip_suffix(&[1, 1]).unwrap_or(found);
        assert_eq!(found, info.shape, "{}", info.name);
        weights.extend(file.numbers(&info.name).unwrap());
    }
    let all = file
        .names()
        .iter()
        .filter(|name| name.starts_with("model."))
        .count();
    assert_eq!(
        infos.len(),
        all,
        "tensors of the file that have no parameter of ours"
    );
    let denoiser = filled(denoiser, &weights, &Device::default());
    let Denoiser::Gaussian(kernel) = &denoiser else {
        panic!("no Gaussian")
    };

    let x_t = image(&file, "input.x_t", &device);
    let eps_hat = kernel.forward(x_t, &steps(&file), &mut Dropout::off());
    let eps = image(&file, "input.eps", &device);
    let loss = (eps_hat.clone() - eps).square().mean();
    // The file's own f32 error is 5e-7 of the largest number; 1e-5 tells a norm's epsilon apart.
    let theirs = file.numbers("expected.eps").unwrap();
    let share = assert_close_to_largest("eps", &numbers_nchw(eps_hat), &theirs, 1e-5);
    println!("eps: {share:.1e} of the largest number");
    let theirs = file.numbers("expected.loss").unwrap();
    let worst = assert_close("loss", &host::numbers(loss.clone()), &theirs, 1e-5, 0.0);
    println!("loss: {worst:.1e}");
    let bare = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_owned();
    let (count, worst) = assert_gradients(&file, &denoiser, loss, bare);
    println!("{count} gradients: {worst:.1e} of the largest number");
    assert_eq!(count, infos.len());
}
