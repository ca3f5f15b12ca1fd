//! What only one option can have: a path to listen at, a port, a descriptor, the standard streams.

use std::collections::BTreeMap;

use super::address::Address;
use super::error::UsageError;

/// Who has what.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<String, &'static str>);

impl Claims {
    /// Notes that `option` uses `address`.
    ///
    /// # Errors
    /// When another option, or the same one, uses it already.
    pub(super) fn note(
        &mut self,
        option: &'static str,
        address: &Address,
    ) -> Result<(), UsageError> {
        let Some(claim) = address.claim() else {
            return Ok(());
        };
        match self.0.insert(claim.clone(), option) {
            None => Ok(()),
            Some(other) => Err(UsageError::value(
                option,
                &claim,
                format!("{other} has it already"),
                "give each its own",
            )),
        }
    }

    /// Whether the standard streams are somebody's.
    pub(super) fn stdio(&self) -> bool {
        Address::Stdio
            .claim()
            .is_some_and(|claim| self.0.contains_key(&claim))
    }
}
