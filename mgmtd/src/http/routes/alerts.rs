//! Alerts and how their rules are set.

use super::super::{
    Api,
    access::sees_target,
    extract::{Answer, Id, Json, OptionalJson, Query},
    problem::Failure,
    rules::missing,
};
use crate::{
    auth::Caller,
    cluster::{Op, Reply, State as Agreed, state::alerts::silence_end},
};
use axum::{extract::State, http::StatusCode};
use lq_api::{
    AlertId, Timestamp,
    access::Permission,
    alert::{AcknowledgeAlert, Alert, AlertQuery, AlertRule, AlertRuleInfo, RuleSettings, SilenceAlert},
    list::Page,
    problem::Kind,
};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(acknowledge))
        .routes(routes!(silence))
        .routes(routes!(rules))
        .routes(routes!(set_rule, reset_rule))
}

/// The alert, where the caller may see what it is about.
pub(super) fn visible(state: &Agreed, caller: &Caller, id: AlertId) -> Option<Alert> {
    let record = state.alerting.alerts.get(&id)?;
    sees_target(state, caller, &record.alert.target).then(|| record.alert.clone())
}

/// Alerts about what the caller may see, newest first: active ones, or with `state` those that are over.
#[utoipa::path(
    get, path = "/alerts", tag = "alerts", params(AlertQuery), responses((status = 200, body = Page<Alert>))
)]
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<AlertQuery>,
) -> Result<Answer<Page<Alert>>, Failure> {
    let limit = query.limit.unwrap_or(100) as usize;
    if !(1..=1000).contains(&limit) {
        return Err(Failure::new(Kind::Malformed, "`limit` is not between 1 and 1000"));
    }
    let local = api.alerts.local();
    let page = api.node.cluster.read_at(|s, revision| {
        let mut all: Vec<&Alert> = s.alerting.alerts.values().map(|r| &r.alert).chain(&local).collect();
        all.sort_by_key(|a| std::cmp::Reverse(a.id));
        let wanted = |a: &&&Alert| {
            query.cursor.is_none_or(|c| a.id < c) && query.wants(a) && sees_target(s, &caller, &a.target)
        };
        let mut items: Vec<Alert> = all.iter().filter(wanted).take(limit + 1).map(|a| (*a).clone()).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|a| a.id.to_string());
        Page { items, next_cursor, revision }
    });
    Ok(Answer(StatusCode::OK, page))
}

/// An alert.
#[utoipa::path(
    get, path = "/alerts/{id}", tag = "alerts", params(("id" = AlertId, Path)), responses((status = 200, body = Alert))
)]
async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<AlertId>,
) -> Result<Answer<Alert>, Failure> {
    let known = api.node.cluster.read(|s| visible(s, &caller, id));
    let local = || {
        let found = api.alerts.local().into_iter().find(|a| a.id == id)?;
        api.node.cluster.read(|s| sees_target(s, &caller, &found.target)).then_some(found)
    };
    let alert = known.or_else(local).ok_or_else(|| Failure::not_found("alert", id))?;
    Ok(Answer(StatusCode::OK, alert))
}

/// Refuses what the caller may not change, and first whatever they may not see.
fn may_change(api: &Api, caller: &Caller, id: AlertId) -> Result<(), Failure> {
    if api.node.cluster.read(|s| visible(s, caller, id)).is_none() {
        if api.alerts.local().iter().any(|a| a.id == id) {
            let why = "only this host knows the alert while the cluster takes no changes; it ends by itself";
            return Err(Failure::new(Kind::Conflict, why));
        }
        return Err(Failure::not_found("alert", id));
    }
    if caller.may_all(Permission::AlertWrite) {
        return Ok(());
    }
    Err(missing(Permission::AlertWrite, "the cluster"))
}

async fn change(api: &Api, op: Op) -> Result<Answer<Alert>, Failure> {
    match api.node.cluster.write(op).await? {
        Reply::Alert(alert) => Ok(Answer(StatusCode::OK, (*alert).clone())),
        _ => Err(Failure::new(Kind::Internal, "an unexpected answer of the state")),
    }
}

/// Takes note of an alert, for all to see. It stays until what is wrong is right.
#[utoipa::path(
    post, path = "/alerts/{id}/acknowledge", tag = "alerts", params(("id" = AlertId, Path)),
    request_body = Option<AcknowledgeAlert>, responses((status = 200, body = Alert))
)]
async fn acknowledge(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<AlertId>,
    OptionalJson(body): OptionalJson<AcknowledgeAlert>,
) -> Result<Answer<Alert>, Failure> {
    may_change(&api, &caller, id)?;
    Failure::check(body.validate())?;
    change(&api, Op::AcknowledgeAlert { id, by: caller.actor.clone(), comment: body.comment }).await
}

/// Lets nobody be notified of an alert for some time; 0 minutes end that. If it is over and comes again within the time, it is
/// silent too.
#[utoipa::path(
    post, path = "/alerts/{id}/silence", tag = "alerts", params(("id" = AlertId, Path)), request_body = SilenceAlert,
    responses((status = 200, body = Alert))
)]
async fn silence(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Id(id): Id<AlertId>,
    Json(body): Json<SilenceAlert>,
) -> Result<Answer<Alert>, Failure> {
    may_change(&api, &caller, id)?;
    Failure::check(body.validate())?;
    let until = silence_end(Timestamp::now(), body.minutes);
    change(&api, Op::SilenceAlert { id, until, by: caller.actor.clone(), comment: body.comment }).await
}

fn info(state: &Agreed, rule: AlertRule) -> AlertRuleInfo {
    AlertRuleInfo {
        id: rule,
        title: rule.title().into(),
        description: rule.description().into(),
        unit: rule.unit(),
        settings: state.alerting.settings(rule),
        defaults: rule.defaults(),
    }
}

/// What is watched, and how it is set.
#[utoipa::path(
    get, path = "/alert-rules", tag = "alerts", responses((status = 200, body = Vec<AlertRuleInfo>))
)]
async fn rules(State(api): State<Arc<Api>>) -> Answer<Vec<AlertRuleInfo>> {
    let all = api.node.cluster.read(|s| AlertRule::ALL.iter().map(|r| info(s, *r)).collect());
    Answer(StatusCode::OK, all)
}

/// Sets a rule, for the whole cluster.
#[utoipa::path(
    put, path = "/alert-rules/{id}", tag = "alerts", params(("id" = AlertRule, Path)), request_body = RuleSettings,
    responses((status = 200, body = AlertRuleInfo))
)]
async fn set_rule(
    State(api): State<Arc<Api>>,
    Id(rule): Id<AlertRule>,
    Json(settings): Json<RuleSettings>,
) -> Result<Answer<AlertRuleInfo>, Failure> {
    Failure::check(settings.validate(rule))?;
    api.node.cluster.write(Op::SetAlertRule { rule, settings: Some(settings) }).await?;
    Ok(Answer(StatusCode::OK, api.node.cluster.read(|s| info(s, rule))))
}

/// Sets a rule back to what it is by default.
#[utoipa::path(
    delete, path = "/alert-rules/{id}", tag = "alerts", params(("id" = AlertRule, Path)),
    responses((status = 200, body = AlertRuleInfo))
)]
async fn reset_rule(
    State(api): State<Arc<Api>>,
    Id(rule): Id<AlertRule>,
) -> Result<Answer<AlertRuleInfo>, Failure> {
    api.node.cluster.write(Op::SetAlertRule { rule, settings: None }).await?;
    Ok(Answer(StatusCode::OK, api.node.cluster.read(|s| info(s, rule))))
}
