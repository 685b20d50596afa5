//! Checks of sizes that several networks have.

use crate::error::ConfigError;

/// Channels: an embedding of time is half sines, half cosines.
pub(super) fn check_dim(dim: usize) -> Result<(), ConfigError> {
    if dim < 4 || !dim.is_multiple_of(2) {
        let problem = format!("is {dim}, must be even and at least 4");
        return Err(ConfigError::invalid("net.dim", problem));
    }
    Ok(())
}

/// What both U-Nets have.
pub(super) fn check_unet(
    dim: usize,
    multipliers: &[usize],
    groups: usize,
) -> Result<(), ConfigError> {
    check_dim(dim)?;
    // No image is large enough to be halved more often.
    if !(1..=16).contains(&multipliers.len()) || multipliers.contains(&0) {
        return Err(ConfigError::invalid(
            "net.multipliers",
            "must be 1 to 16 numbers from 1",
        ));
    }
    if groups == 0 || !dim.is_multiple_of(groups) {
        let divides = |n: &usize| dim.is_multiple_of(*n);
        let nearest = (1..=groups.clamp(1, dim)).rev().find(divides).unwrap_or(1);
        let problem =
            format!("is {groups}, must divide net.dim = {dim}; set `net.groups = {nearest}`");
        return Err(ConfigError::invalid("net.groups", problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_do_not_divide_name_the_most_that_do() {
        let message = |dim, groups| check_unet(dim, &[1, 2], groups).unwrap_err().to_string();
        assert_eq!(
            message(48, 32),
            "net.groups is 32, must divide net.dim = 48; set `net.groups = 24`"
        );
        for (dim, groups, fits) in [(34, 4, 2), (8, 0, 1), (8, 99, 8)] {
            let fix = format!("set `net.groups = {fits}`");
            assert!(message(dim, groups).ends_with(&fix), "{dim}, {groups}");
        }
        check_unet(48, &[1, 2], 24).unwrap();
    }

    #[test]
    fn stages_that_no_image_has_are_refused() {
        for multipliers in [vec![], vec![1, 0], vec![1; 17]] {
            let message = check_unet(8, &multipliers, 4).unwrap_err().to_string();
            assert!(message.starts_with("net.multipliers must"), "{message}");
        }
        let message = check_dim(7).unwrap_err().to_string();
        assert_eq!(message, "net.dim is 7, must be even and at least 4");
    }
}
