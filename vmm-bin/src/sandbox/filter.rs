//! Filters of system calls, made of the lists: seccomp.
//!
//! The rule that must never be broken: what is in no list meets what the caller says, and nothing
//! is let through here.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::lists::{Allowed, Condition, Role};

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The kernel does not take one.
    #[error(
        "--seccomp: the kernel takes no filter of system calls: {0}; \
         it needs CONFIG_SECCOMP_FILTER, without which only --seccomp off will do"
    )]
    Refused(seccompiler::Error),
    /// A list makes no filter, which a test excludes.
    #[error("--seccomp: there is no filter of system calls: {0}; --seccomp off does without")]
    Lists(#[from] seccompiler::BackendError),
}

/// Makes a filter of a role's lists and those `besides`. What is not in them meets `otherwise`.
///
/// # Errors
/// See [`Error`].
pub(super) fn compile(
    role: &Role,
    besides: &[&'static [Allowed]],
    otherwise: SeccompAction,
) -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for allowed in role.calls.iter().chain(besides).copied().flatten() {
        let rules = rules.entry(allowed.call).or_default();
        // A call without a rule is allowed whatever its arguments are.
        if !allowed.conditions.is_empty() {
            let conditions = allowed.conditions.iter().copied().map(condition);
            rules.push(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?);
        }
    }
    for request in role.requests {
        let number = argument(1, SeccompCmpOp::Eq, request())?;
        let requests = rules.entry(libc::SYS_ioctl).or_default();
        requests.push(SeccompRule::new(vec![number])?);
    }
    let arch = TargetArch::x86_64;
    let filter = SeccompFilter::new(rules, otherwise, SeccompAction::Allow, arch)?;
    Ok(filter.try_into()?)
}

fn condition(condition: Condition) -> Result<SeccompCondition, Error> {
    let bits = |value: i32| u64::from(value.cast_unsigned());
    match condition {
        Condition::Is(index, value) => argument(index, SeccompCmpOp::Eq, bits(value)),
        Condition::Has(index, mask) => {
            argument(index, SeccompCmpOp::MaskedEq(bits(mask)), bits(mask))
        }
        Condition::Lacks(index, mask) => argument(index, SeccompCmpOp::MaskedEq(bits(mask)), 0),
        Condition::OwnProcess(index) => {
            argument(index, SeccompCmpOp::Eq, u64::from(std::process::id()))
        }
    }
}

fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Error> {
    let width = SeccompCmpArgLen::Dword;
    Ok(SeccompCondition::new(index, width, operator, value)?)
}

/// Puts a filter on the calling thread, for ever.
///
/// # Errors
/// See [`Error`].
pub(super) fn install(filter: &BpfProgram) -> Result<(), Error> {
    apply_filter(filter).map_err(Error::Refused)
}
