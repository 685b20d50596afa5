//! The optimiser's step over all parameters as one row: AdamW (Loshchilov and Hutter 2019) and the
//! averages of the weights, in one pass on the CPU.

#[cfg(feature = "flex")]
use super::parts::{self, Part};
use burn::tensor::Tensor;

/// What every parameter and its state are, as rows of the same length.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The parameters.
    pub weights: Tensor<1>,
    /// Averages of the gradient and of its square.
    pub moments: [Tensor<1>; 2],
    /// Averages of the weights.
    pub averages: Vec<Tensor<1>>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decays of the moments.
    pub betas: [f64; 2],
    /// What is added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay; 0 is Adam.
    pub weight_decay: f64,
    /// The step, from 1.
    pub step: u64,
    /// What the gradient is multiplied with: clipping.
    pub scale: f64,
    /// The decay of each average in this step.
    pub decays: Vec<f64>,
}

impl AdamW {
    /// ```text
    /// m = b_1 m + (1 - b_1) g    v = b_2 v + (1 - b_2) g^2
    /// w = w (1 - lr wd) - lr (m / (1 - b_1^n)) / (sqrt(v / (1 - b_2^n)) + eps)
    /// a = d a + (1 - d) w        for each average
    /// ```
    ///
    /// # Panics
    /// If the rows differ in length, or there is not one decay for each average.
    pub fn step(&self, rows: &mut Rows, grad: Tensor<1>) {
        assert_eq!(
            rows.averages.len(),
            self.decays.len(),
            "one decay for each average"
        );
        #[cfg(feature = "flex")]
        if rows.weights.device() == burn::tensor::Device::flex() {
            return parts::timed(Part::Optimiser, || self.step_on_cpu(rows, grad));
        }
        self.composed(rows, grad);
    }

    pub(super) fn composed(&self, rows: &mut Rows, grad: Tensor<1>) {
        let [b_1, b_2] = self.betas;
        let grad = grad * self.scale;
        let [m, v] = rows.moments.clone();
        let m = m * b_1 + grad.clone() * (1.0 - b_1);
        let v = v * b_2 + grad.square() * (1.0 - b_2);
        let corrected = |beta: f64| 1.0 - beta.powi(self.step as i32);
        let root = (v.clone() / corrected(b_2)).sqrt() + self.eps;
        let update = m.clone() / corrected(b_1) / root;
        let kept = 1.0 - self.lr * self.weight_decay;
        rows.weights = rows.weights.clone() * kept - update * self.lr;
        rows.moments = [m, v];
        for (average, &decay) in rows.averages.iter_mut().zip(&self.decays) {
            *average = average.clone() * decay + rows.weights.clone() * (1.0 - decay);
        }
    }

    /// In place where nothing else holds a row.
    #[cfg(feature = "flex")]
    fn step_on_cpu(&self, rows: &mut Rows, grad: Tensor<1>) {
        use crate::host::numbers;
        use burn::tensor::TensorData;
        use smd_kernels::adam;
        let device = rows.weights.device();
        let take =
            |row: &mut Tensor<1>| numbers(std::mem::replace(row, Tensor::empty([0], &device)));
        let row = |numbers: Vec<f32>| {
            let len = numbers.len();
            Tensor::from_data(TensorData::new(numbers, [len]), &device)
        };
        let mut weights = take(&mut rows.weights);
        let [mut m, mut v] = rows.moments.each_mut().map(take);
        let mut averages: Vec<Vec<f32>> = rows.averages.iter_mut().map(take).collect();
        let step = adam::Adam {
            lr: self.lr,
            beta_1: self.betas[0] as f32,
            beta_2: self.betas[1] as f32,
            eps: self.eps as f32,
            weight_decay: self.weight_decay as f32,
            step: self.step,
            scale: self.scale,
        };
        let slices = averages.iter_mut().map(Vec::as_mut_slice);
        let mut decayed: Vec<(f64, &mut [f32])> = self.decays.iter().copied().zip(slices).collect();
        let grad = numbers(grad);
        adam::step(&step, &mut weights, &grad, &mut m, &mut v, &mut decayed);
        *rows = Rows {
            weights: row(weights),
            moments: [row(m), row(v)],
            averages: averages.into_iter().map(row).collect(),
        };
    }
}

/// Length of a gradient.
pub fn norm(grad: &Tensor<1>) -> f64 {
    #[cfg(feature = "flex")]
    if grad.device() == burn::tensor::Device::flex() {
        return smd_kernels::adam::norm_squared(&crate::host::numbers(grad.clone())).sqrt();
    }
    // Sums of rows first: one long sum would be taken in an order that depends on the device.
    const ROW: usize = 4096;
    let len = grad.dims()[0];
    let padding = Tensor::zeros([len.next_multiple_of(ROW) - len], &grad.device());
    let rows = Tensor::cat(vec![grad.clone(), padding], 0).reshape([-1, ROW as i32]);
    let sums = crate::host::numbers(rows.square().sum_dim(1));
    sums.into_iter().map(f64::from).sum::<f64>().sqrt()
}
