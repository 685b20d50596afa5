//! The parameters of a network as a list of named rows of numbers.
//!
//! Optimisers, averages and checkpoints work on `(name, shape, Tensor<1>)` and need not know layers.
//! The order is that of the fields, the same in every call.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

/// Name and shape of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Dotted path, e.g. `model.in_hypernet.in_proj.weight`.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
}

impl Info {
    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Names and shapes of all parameters.
pub fn infos(module: &impl Module) -> Vec<Info> {
    let mut names = Names::default();
    module.visit(&mut names);
    names.infos
}

/// The numbers of all parameters, each as one row, apart from automatic differentiation.
pub fn values(module: &impl Module) -> Vec<Tensor<1>> {
    let mut rows = Rows::default();
    module.visit(&mut rows);
    rows.rows
}

/// The gradients of all parameters, each as one row; `None` for one that the loss does not reach.
pub fn gradients(module: &impl Module, grads: &mut Gradients) -> Vec<Option<Tensor<1>>> {
    let mut rows = GradientRows {
        grads,
        rows: Vec::new(),
    };
    module.visit(&mut rows);
    rows.rows
}

/// The module with other numbers. On a device with automatic differentiation each parameter starts a
/// new graph.
///
/// # Panics
/// If a row has not as many numbers as its parameter.
pub fn with_values<M: Module>(module: M, rows: &[Tensor<1>]) -> M {
    module.map(&mut Fill { rows: rows.iter() })
}

#[derive(Default)]
struct Names {
    path: Vec<String>,
    infos: Vec<Info>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, container: &str) {
        // The variant of an enum is not part of a name: `model.conv_in`, whatever the network.
        self.path.push(if container.starts_with("Enum:") {
            String::new()
        } else {
            name.into()
        });
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let parts: Vec<&str> = self
            .path
            .iter()
            .map(String::as_str)
            .filter(|part| !part.is_empty())
            .collect();
        self.infos.push(Info {
            name: parts.join("."),
            shape: param.lazy_shape().to_vec(),
        });
    }
}

#[derive(Default)]
struct Rows {
    rows: Vec<Tensor<1>>,
}

impl ModuleVisitor for Rows {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().without_autodiff();
        let len = value.shape().num_elements();
        self.rows.push(value.reshape([len]));
    }
}

struct GradientRows<'a> {
    grads: &'a mut Gradients,
    rows: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for GradientRows<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grad = param.val().grad_remove(self.grads);
        self.rows.push(grad.map(|grad| {
            let len = grad.shape().num_elements();
            grad.without_autodiff().reshape([len])
        }));
    }
}

struct Fill<'a> {
    rows: std::slice::Iter<'a, Tensor<1>>,
}

impl ModuleMapper for Fill<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let row = self
            .rows
            .next()
            .expect("one row for each parameter")
            .clone();
        param.map(|old| {
            let row: Tensor<D> = row.reshape(old.shape());
            if old.is_autodiff() {
                Tensor::from_inner(row).require_grad()
            } else {
                row
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Dropout, HyperNetConfig, Init, MlpConfig, NetConfig};
    use burn::tensor::Device;

    fn net(device: &Device) -> crate::nn::Net {
        let config = NetConfig::Mlp(MlpConfig {
            dim: 8,
            blocks: 1,
            frequencies: 1,
        });
        let hyper = HyperNetConfig {
            d_latent: 4,
            layers: 1,
        };
        config.init([1, 1, 2], 2, Some(&hyper), &mut Init::new(0, device))
    }

    #[test]
    fn names_are_paths_without_variants() {
        let names: Vec<String> = infos(&net(&Device::default()))
            .into_iter()
            .map(|i| i.name)
            .collect();
        assert!(
            names.contains(&"in_hypernet.param_projs.0.weight".into()),
            "{names:?}"
        );
        assert!(names.contains(&"blocks.0.first.bias".into()), "{names:?}");
    }

    #[test]
    fn values_go_out_and_come_back() {
        let device = Device::default();
        let net = net(&device);
        let doubled: Vec<_> = values(&net).into_iter().map(|row| row * 2.0).collect();
        let again = values(&with_values(net, &doubled));
        for (a, b) in doubled.iter().zip(&again) {
            assert_eq!(a.to_data(), b.to_data());
        }
    }

    #[test]
    fn gradients_reach_every_parameter_of_filled_networks() {
        let device = Device::default().autodiff();
        let net = net(&device);
        let rows = values(&net);
        let net = with_values(net, &rows);
        let x = Tensor::<4>::ones([3, 1, 1, 2], &device);
        let z_t = Tensor::<4>::ones([3, 1, 1, 4], &device);
        let y = net.forward(x, &[1, 2, 3], Some(z_t), &mut Dropout::off());
        let mut grads = y.square().mean().backward();
        let grads = gradients(&net, &mut grads);
        assert_eq!(grads.len(), rows.len());
        assert!(grads.iter().all(Option::is_some));
    }
}
