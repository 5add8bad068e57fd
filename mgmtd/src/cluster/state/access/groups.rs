//! Groups and roles.

use super::super::{
    Kind, Outcome, Refusal, Reply, State,
    apply::{Context, check_expected, check_new, patched},
};
use lq_api::{
    GroupId, RoleId,
    access::{CreateGroup, CreateRole, Group, GroupSpec, Role, UpdateGroup, UpdateRole},
    meta::MetadataPatch,
};
use std::sync::Arc;

impl State {
    fn check_group(&self, spec: &GroupSpec) -> Result<(), Refusal> {
        let errors = spec.validate();
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        if let Some(missing) = spec.members.iter().find(|m| !self.users.contains_key(m)) {
            return Err(Refusal::field("spec.members", format!("there is no user {missing}")));
        }
        self.check_roles(&spec.grants)
    }

    pub(in super::super) fn create_group(
        &mut self,
        ctx: &mut Context<'_>,
        id: GroupId,
        create: &CreateGroup,
    ) -> Outcome {
        check_new(&create.name, &create.labels, self.groups.values().map(|g| g.meta.name.as_str()))?;
        self.check_group(&create.spec)?;
        if self.groups.contains_key(&id) {
            return Err(Refusal::Conflict(format!("the id {id} is taken")));
        }
        let meta = ctx.meta(id, &create.name, create.labels.clone());
        let group = Arc::new(Group { meta, spec: create.spec.clone() });
        self.groups.insert(id, group.clone());
        ctx.changed(Kind::Group, id.0);
        Ok(Reply::Group(group))
    }

    /// The provider that maps groups of its own to this one.
    fn mapping_to(&self, id: GroupId) -> Option<&str> {
        let maps = self.providers.values().find(|p| p.spec.groups.iter().any(|m| m.group == id));
        maps.map(|p| p.meta.name.as_str())
    }

    pub(in super::super) fn update_group(
        &mut self,
        ctx: &mut Context<'_>,
        id: GroupId,
        expect: Option<u64>,
        update: &UpdateGroup,
    ) -> Outcome {
        let old = self.groups.get(&id).ok_or_else(|| Refusal::not_found("group", id))?.clone();
        check_expected(&old.meta, expect)?;
        let patch = MetadataPatch { name: update.name.clone(), labels: update.labels.clone() };
        let meta = patched(&old.meta, &patch, self.groups.values().map(|g| g.meta.name.as_str()))?;
        let mut new = Group { meta, spec: update.spec.clone().unwrap_or_else(|| old.spec.clone()) };
        self.check_group(&new.spec)?;
        if new == *old {
            return Ok(Reply::Group(old));
        }
        new.meta.generation += u64::from(new.spec != old.spec);
        new.meta.revision = ctx.revision;
        let new = Arc::new(new);
        self.keeping_an_administrator(|s| Ok(s.groups.insert(id, new.clone())))?;
        ctx.changed(Kind::Group, id.0);
        Ok(Reply::Group(new))
    }

    pub(in super::super) fn delete_group(
        &mut self,
        ctx: &mut Context<'_>,
        id: GroupId,
        expect: Option<u64>,
    ) -> Outcome {
        let old = self.groups.get(&id).ok_or_else(|| Refusal::not_found("group", id))?;
        check_expected(&old.meta, expect)?;
        if let Some(provider) = self.mapping_to(id) {
            let why =
                format!("the identity provider `{provider}` maps groups to it: take the mapping away first");
            return Err(Refusal::Conflict(why));
        }
        self.keeping_an_administrator(|s| Ok(s.groups.remove(&id)))?;
        ctx.changed(Kind::Group, id.0);
        Ok(Reply::Done)
    }

    pub(in super::super) fn create_role(
        &mut self,
        ctx: &mut Context<'_>,
        id: RoleId,
        create: &CreateRole,
    ) -> Outcome {
        check_new(&create.name, &create.labels, self.all_roles().map(|r| r.meta.name.as_str()))?;
        check_role(create.spec.validate())?;
        if self.role(id).is_some() {
            return Err(Refusal::Conflict(format!("the id {id} is taken")));
        }
        let meta = ctx.meta(id, &create.name, create.labels.clone());
        let role = Arc::new(Role { meta, spec: create.spec.clone(), builtin: false });
        self.roles.insert(id, role.clone());
        ctx.changed(Kind::Role, id.0);
        Ok(Reply::Role(role))
    }

    fn own_role(&self, id: RoleId, expect: Option<u64>) -> Result<Arc<Role>, Refusal> {
        if let Some(role) = self.role(id).filter(|r| r.builtin) {
            let why = format!(
                "`{}` comes with the product and stays as it is: make a role of your own",
                role.meta.name
            );
            return Err(Refusal::Conflict(why));
        }
        let old = self.roles.get(&id).ok_or_else(|| Refusal::not_found("role", id))?;
        check_expected(&old.meta, expect)?;
        Ok(old.clone())
    }

    pub(in super::super) fn update_role(
        &mut self,
        ctx: &mut Context<'_>,
        id: RoleId,
        expect: Option<u64>,
        update: &UpdateRole,
    ) -> Outcome {
        let old = self.own_role(id, expect)?;
        let patch = MetadataPatch { name: update.name.clone(), labels: update.labels.clone() };
        let meta = patched(&old.meta, &patch, self.all_roles().map(|r| r.meta.name.as_str()))?;
        let mut new =
            Role { meta, spec: update.spec.clone().unwrap_or_else(|| old.spec.clone()), builtin: false };
        check_role(new.spec.validate())?;
        if new == *old {
            return Ok(Reply::Role(old));
        }
        new.meta.generation += u64::from(new.spec != old.spec);
        new.meta.revision = ctx.revision;
        let new = Arc::new(new);
        self.roles.insert(id, new.clone());
        ctx.changed(Kind::Role, id.0);
        Ok(Reply::Role(new))
    }

    pub(in super::super) fn delete_role(
        &mut self,
        ctx: &mut Context<'_>,
        id: RoleId,
        expect: Option<u64>,
    ) -> Outcome {
        self.own_role(id, expect)?;
        let user = self.users.values().find(|r| r.user.spec.grants.iter().any(|g| g.role == id));
        let group = self.groups.values().find(|g| g.spec.grants.iter().any(|g| g.role == id));
        let token = self.tokens.values().find(|t| t.token.limit.as_ref().is_some_and(|l| l.role == id));
        let holder = user
            .map(|r| format!("the user `{}`", r.user.meta.name))
            .or_else(|| group.map(|g| format!("the group `{}`", g.meta.name)))
            .or_else(|| token.map(|t| format!("the token `{}`", t.token.name)));
        if let Some(holder) = holder {
            return Err(Refusal::Conflict(format!("{holder} has it: take it away first")));
        }
        self.roles.remove(&id);
        ctx.changed(Kind::Role, id.0);
        Ok(Reply::Done)
    }
}

fn check_role(errors: Vec<lq_api::problem::FieldError>) -> Result<(), Refusal> {
    if errors.is_empty() { Ok(()) } else { Err(Refusal::Validation(errors)) }
}
