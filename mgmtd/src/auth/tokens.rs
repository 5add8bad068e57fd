//! API tokens.

use super::{Auth, AuthError, Caller, secret};
use crate::cluster::Op;
use lq_api::{
    TokenId, UserId,
    access::check_grants,
    auth::{CreateToken, CreatedToken, Token},
    problem::FieldError,
};
use std::time::Duration;

impl Auth {
    /// Makes an API token for `owner`, which the caller may do. One for someone else is pinned to what they may now: whoever makes
    /// it must not gain by what its owner is granted later.
    pub async fn create_token(
        &self,
        caller: &Caller,
        owner: UserId,
        new: CreateToken,
    ) -> Result<CreatedToken, AuthError> {
        let mut errors = Vec::new();
        if new.days.is_some_and(|d| !(1..=3650).contains(&d)) {
            errors.push(FieldError::new("days", "is not between 1 and 3650"));
        }
        errors.extend(check_grants("limit", new.limit.as_slice()));
        if !errors.is_empty() {
            return Err(AuthError::Invalid(errors));
        }
        let secret = secret::token();
        let token = Token {
            id: TokenId::new(),
            name: new.name,
            created_at: self.clock.now(),
            expires_at: new.days.map(|d| self.clock.after(Duration::from_secs(u64::from(d) * 86_400))),
            read_only: new.read_only,
            owner,
            limit: new.limit,
            pinned: (caller.user != Some(owner)).then(|| self.cluster.read(|s| s.rights_of(owner).shown())),
        };
        let hash = secret::hash(&secret);
        self.cluster.write(Op::CreateToken { token: token.clone(), hash }).await?;
        Ok(CreatedToken { token, secret })
    }

    /// Whose token it is to be: the caller's own, or of whom they name.
    pub fn owner_of(&self, caller: &Caller, new: &CreateToken) -> Result<UserId, AuthError> {
        let none = || {
            AuthError::Invalid(vec![FieldError::new("owner", "must be named: root on the host is no user")])
        };
        new.owner.or(caller.user).ok_or_else(none)
    }
}
