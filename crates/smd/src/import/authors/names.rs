//! The authors' name of each of our parameters.
//!
//! Their modules are numbered where ours have names: a stage is `0, 1` (blocks), `2` (attention), `3`
//! (resampling), and what sits inside an `nn.Sequential` has one number more.

/// Their name of our parameter `name`, where its network has `stages` stages.
pub(super) fn theirs(name: &str, stages: usize) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        [net, "time_first", leaf] => format!("{net}.time_mlp.1.{leaf}"),
        [net, "time_second", leaf] => format!("{net}.time_mlp.3.{leaf}"),
        [net, side @ ("downs" | "ups"), stage, inner @ ..] => {
            let resamples = stage.parse() != Ok(stages - 1);
            format!("{net}.{side}.{stage}.{}", in_stage(inner, resamples))
        }
        [
            net,
            name @ ("mid_block1" | "mid_block2" | "final_res_block"),
            inner @ ..,
        ] => {
            format!("{net}.{name}.{}", in_block(inner))
        }
        _ => name.into(),
    }
}

fn in_stage(inner: &[&str], resamples: bool) -> String {
    match inner {
        ["block1", inner @ ..] => format!("0.{}", in_block(inner)),
        ["block2", inner @ ..] => format!("1.{}", in_block(inner)),
        ["attn", "to_out", leaf] => format!("2.to_out.0.{leaf}"),
        ["attn", "out_norm", leaf] => format!("2.to_out.1.{leaf}"),
        ["attn", inner @ ..] => format!("2.{}", inner.join(".")),
        // Unshuffling or upsampling comes first in an nn.Sequential; the last stage does neither.
        [_, leaf] if resamples => format!("3.1.{leaf}"),
        [_, leaf] => format!("3.{leaf}"),
        _ => inner.join("."),
    }
}

fn in_block(inner: &[&str]) -> String {
    match inner {
        ["mlp", leaf] => format!("mlp.1.{leaf}"),
        ["proj1", leaf] => format!("block1.proj.{leaf}"),
        ["norm1", leaf] => format!("block1.norm.{leaf}"),
        ["proj2", leaf] => format!("block2.proj.{leaf}"),
        ["norm2", leaf] => format!("block2.norm.{leaf}"),
        _ => inner.join("."),
    }
}

#[cfg(test)]
mod tests {
    use super::theirs;

    #[test]
    fn each_part_has_its_number() {
        let pairs = [
            ("model.init_conv.weight", "model.init_conv.weight"),
            (
                "model.in_hypernet.param_projs.1.bias",
                "model.in_hypernet.param_projs.1.bias",
            ),
            ("model.time_second.bias", "model.time_mlp.3.bias"),
            (
                "identifier.downs.0.block2.proj1.weight",
                "identifier.downs.0.1.block1.proj.weight",
            ),
            ("model.downs.1.attn.norm.g", "model.downs.1.2.norm.g"),
            (
                "model.downs.1.attn.out_norm.g",
                "model.downs.1.2.to_out.1.g",
            ),
            (
                "model.downs.0.unshuffled.weight",
                "model.downs.0.3.1.weight",
            ),
            ("model.downs.1.conv.weight", "model.downs.1.3.weight"),
            ("model.ups.0.conv.bias", "model.ups.0.3.1.bias"),
            ("model.ups.1.conv.bias", "model.ups.1.3.bias"),
            ("model.mid_attn.to_out.bias", "model.mid_attn.to_out.bias"),
            (
                "model.final_res_block.res_conv.bias",
                "model.final_res_block.res_conv.bias",
            ),
            (
                "model.mid_block1.mlp.weight",
                "model.mid_block1.mlp.1.weight",
            ),
        ];
        for (ours, expected) in pairs {
            assert_eq!(theirs(ours, 2), expected);
        }
    }
}
