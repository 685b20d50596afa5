//! The backward passes, registered once for every device.

use super::{FusedGradients, FusedOps, HyperLayers, Norm, Window};
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

#[derive(Debug)]
struct Conv2d;

impl<B: FusedGradients> Backward<B, 3> for Conv2d {
    type State = (FloatTensor<B>, FloatTensor<B>, Window);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, weight, window) = ops.state;
        let [x_node, weight_node, bias_node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (x_grad, weight_grad, bias_grad) =
            B::conv2d_nhwc_backward(x, weight, grad, window, x_node.is_some());
        if let (Some(node), Some(x_grad)) = (x_node, x_grad) {
            grads.register::<B>(node.id, x_grad);
        }
        if let Some(node) = weight_node {
            grads.register::<B>(node.id, weight_grad);
        }
        if let Some(node) = bias_node {
            grads.register::<B>(node.id, bias_grad);
        }
    }
}

#[derive(Debug)]
struct GroupNorm;

impl<B: FusedGradients> Backward<B, 3> for GroupNorm {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, Norm);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, scale, shift, norm) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let results = B::group_norm_nhwc_backward(x, scale, shift, grad, norm);
        for (node, result) in ops.parents.into_iter().zip(results) {
            if let Some(node) = node {
                grads.register::<B>(node.id, result);
            }
        }
    }
}

#[derive(Debug)]
struct Silu;

impl<B: FusedGradients> Backward<B, 1> for Silu {
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::silu_fused_backward(ops.state, grad));
        }
    }
}

#[derive(Debug)]
struct Film;

impl<B: FusedGradients> Backward<B, 2> for Film {
    type State = (FloatTensor<B>, FloatTensor<B>, bool);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (h, film, silu) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let results = B::film_rows_backward(h, film, grad, silu);
        for (node, result) in ops.parents.into_iter().zip(results) {
            if let Some(node) = node {
                grads.register::<B>(node.id, result);
            }
        }
    }
}

#[derive(Debug)]
struct RmsNorm;

impl<B: FusedGradients> Backward<B, 2> for RmsNorm {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, g) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let results = B::rms_norm_last_backward(x, g, grad);
        for (node, result) in ops.parents.into_iter().zip(results) {
            if let Some(node) = node {
                grads.register::<B>(node.id, result);
            }
        }
    }
}

#[derive(Debug)]
struct HyperNet;

impl<B: FusedGradients> Backward<B, 3> for HyperNet {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, HyperLayers);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, z, parameters, layers) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let results = B::hypernet_nhwc_backward(x, z, parameters, grad, layers);
        for (node, result) in ops.parents.into_iter().zip(results) {
            if let Some(node) = node {
                grads.register::<B>(node.id, result);
            }
        }
    }
}

#[derive(Debug)]
struct Upsample;

impl<B: FusedGradients> Backward<B, 1> for Upsample {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::upsample_nhwc_backward(grad));
        }
    }
}

#[derive(Debug)]
struct PixelUnshuffle;

impl<B: FusedGradients> Backward<B, 1> for PixelUnshuffle {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::pixel_unshuffle_nhwc_backward(grad));
        }
    }
}

#[derive(Debug)]
struct LinearAttention;

impl<B: FusedGradients> Backward<B, 1> for LinearAttention {
    type State = (FloatTensor<B>, usize);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (qkv, heads) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            let result = B::linear_attention_qkv_backward(qkv, grad, heads);
            grads.register::<B>(node.id, result);
        }
    }
}

#[derive(Debug)]
struct Attention;

impl<B: FusedGradients> Backward<B, 1> for Attention {
    /// `qkv`, the output, the logarithms of the sums, the heads.
    type State = (
        FloatTensor<B>,
        FloatTensor<B>,
        Option<FloatTensor<B>>,
        usize,
    );

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (qkv, out, log_sums, heads) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            let result = B::attention_qkv_backward(qkv, out, log_sums, grad, heads);
            grads.register::<B>(node.id, result);
        }
    }
}

impl<B: Backend + FusedGradients, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn conv2d_nhwc(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        let (x, weight, bias) = (
            x.into_primitive(),
            weight.into_primitive(),
            bias.into_primitive(),
        );
        let y = B::conv2d_nhwc(x.clone(), weight.clone(), bias, window);
        match Conv2d.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weight, window), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn group_norm_nhwc(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        norm: Norm,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scale.node(), shift.node()];
        let (x, scale, shift) = (
            x.into_primitive(),
            scale.into_primitive(),
            shift.into_primitive(),
        );
        let y = B::group_norm_nhwc(x.clone(), scale.clone(), shift.clone(), norm);
        match GroupNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, scale, shift, norm), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn silu_fused(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node()];
        let x = x.into_primitive();
        let y = B::silu_fused(x.clone());
        match Silu.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(x, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn film_rows(h: FloatTensor<Self>, film: FloatTensor<Self>, silu: bool) -> FloatTensor<Self> {
        let nodes = [h.node(), film.node()];
        let (h, film) = (h.into_primitive(), film.into_primitive());
        let y = B::film_rows(h.clone(), film.clone(), silu);
        match Film.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((h, film, silu), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn rms_norm_last(x: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node(), g.node()];
        let (x, g) = (x.into_primitive(), g.into_primitive());
        let y = B::rms_norm_last(x.clone(), g.clone());
        match RmsNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, g), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn hypernet_nhwc(
        x: FloatTensor<Self>,
        z: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        layers: HyperLayers,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), z.node(), parameters.node()];
        let (x, z) = (x.into_primitive(), z.into_primitive());
        let parameters = parameters.into_primitive();
        let y = B::hypernet_nhwc(x.clone(), z.clone(), parameters.clone(), layers);
        match HyperNet.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, z, parameters, layers), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn upsample_nhwc(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node()];
        let y = B::upsample_nhwc(x.into_primitive());
        Upsample.prepare::<C>(nodes).compute_bound().stateless(y)
    }

    fn pixel_unshuffle_nhwc(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node()];
        let y = B::pixel_unshuffle_nhwc(x.into_primitive());
        PixelUnshuffle
            .prepare::<C>(nodes)
            .compute_bound()
            .stateless(y)
    }

    fn linear_attention_qkv(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let nodes = [qkv.node()];
        let qkv = qkv.into_primitive();
        let y = B::linear_attention_qkv(qkv.clone(), heads);
        match LinearAttention
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((qkv, heads), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn attention_qkv(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let nodes = [qkv.node()];
        let qkv = qkv.into_primitive();
        match Attention.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, log_sums) = B::attention_qkv_for_backward(qkv.clone(), heads);
                prep.finish((qkv, y.clone(), log_sums, heads), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::attention_qkv(qkv, heads)),
        }
    }
}
