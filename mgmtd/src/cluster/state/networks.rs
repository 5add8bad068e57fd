//! Networks.

use super::{
    Kind, Outcome, Refusal, Reply, State,
    apply::{Context, check_expected, check_new, patched},
};
use lq_api::{
    NetworkId,
    meta::MetadataPatch,
    network::{CreateNetwork, Network, UpdateNetwork},
};
use std::sync::Arc;

impl State {
    pub(super) fn create_network(
        &mut self,
        ctx: &mut Context<'_>,
        id: NetworkId,
        create: &CreateNetwork,
    ) -> Outcome {
        check_new(&create.name, &create.labels, self.networks.values().map(|n| n.meta.name.as_str()))?;
        let errors = create.spec.validate();
        if !errors.is_empty() {
            return Err(Refusal::Validation(errors));
        }
        if self.networks.contains_key(&id) {
            return Err(Refusal::Conflict(format!("the id {id} is taken")));
        }
        let meta = ctx.meta(id, &create.name, create.labels.clone());
        let network = Arc::new(Network { meta, spec: create.spec.clone() });
        self.networks.insert(id, network.clone());
        ctx.changed(Kind::Network, id.0);
        Ok(Reply::Network(network))
    }

    pub(super) fn update_network(
        &mut self,
        ctx: &mut Context<'_>,
        id: NetworkId,
        expect: Option<u64>,
        update: &UpdateNetwork,
    ) -> Outcome {
        let old = self.networks.get(&id).ok_or_else(|| Refusal::not_found("network", id))?;
        check_expected(&old.meta, expect)?;
        let patch = MetadataPatch { name: update.name.clone(), labels: update.labels.clone() };
        let mut new = Network {
            meta: patched(&old.meta, &patch, self.networks.values().map(|n| n.meta.name.as_str()))?,
            spec: old.spec.clone(),
        };
        if let Some(spec) = &update.spec {
            let errors = spec.validate();
            if !errors.is_empty() {
                return Err(Refusal::Validation(errors));
            }
            new.spec = spec.clone();
        }
        if new == **old {
            return Ok(Reply::Network(old.clone()));
        }
        new.meta.generation += u64::from(new.spec != old.spec);
        new.meta.revision = ctx.revision;
        let new = Arc::new(new);
        self.networks.insert(id, new.clone());
        ctx.changed(Kind::Network, id.0);
        Ok(Reply::Network(new))
    }

    pub(super) fn delete_network(
        &mut self,
        ctx: &mut Context<'_>,
        id: NetworkId,
        expect: Option<u64>,
    ) -> Outcome {
        let old = self.networks.get(&id).ok_or_else(|| Refusal::not_found("network", id))?;
        check_expected(&old.meta, expect)?;
        if let Some(user) = self.vms.values().find(|r| r.vm.spec.nics.iter().any(|n| n.network == id)) {
            return Err(Refusal::Conflict(format!(
                "the machine `{}` is connected to it: disconnect it first",
                user.vm.meta.name
            )));
        }
        self.networks.remove(&id);
        ctx.changed(Kind::Network, id.0);
        Ok(Reply::Done)
    }
}
