//! Who gets what by which channel. Pure but for two looks: the channels of this host and the length of their queues.

use super::{
    directory::{Directory, Known},
    policy::{Decision, Policy, Question},
};
use campanile_model::{
    ChannelName, DeliveryId, Notification, Priority,
    plan::{DeliveryPlan, RecipientPlan, RecipientSpec},
    ports::WorkQueue,
    state::reason,
    user::{Contact, Resolved},
};

/// Plans recipients of one notification.
pub struct Planner<'a> {
    /// Those the request names, or else every enabled one; each with whether its fast path is open.
    channels: Vec<(Known, bool)>,
    /// Named by the request: a missing address is then worth a row.
    named: bool,
    notification_type: String,
    priority: Priority,
    policy: &'a dyn Policy,
}

impl<'a> Planner<'a> {
    pub fn new(
        directory: &dyn Directory,
        named: Option<&[ChannelName]>,
        notification: &Notification,
        policy: &'a dyn Policy,
        queue: &dyn WorkQueue,
        prefetch: u64,
    ) -> Self {
        let all = directory.all().into_iter();
        let channels: Vec<Known> = match named {
            // In the caller's order. One that has gone since (a plugin removed before a large audience was expanded)
            // keeps its rows: they wait as for any channel nobody serves.
            Some(names) => names.iter().map(|n| directory.find(n.as_str()).unwrap_or_else(|| gone(n))).collect(),
            None => all.filter(|c| c.enabled).collect(),
        };
        let priority = notification.priority;
        let channels = channels
            .into_iter()
            .map(|c| {
                let fast = !c.in_app && fast_path(priority, queue.depth(&c.name), prefetch);
                (c, fast)
            })
            .collect();
        Self {
            channels,
            named: named.is_some(),
            notification_type: notification.content.notification_type.clone(),
            priority,
            policy,
        }
    }

    /// In the order of `recipients`; `resolved` belongs to them one by one.
    pub fn plan(&self, recipients: &[RecipientSpec], resolved: &[Resolved]) -> Vec<RecipientPlan> {
        recipients.iter().zip(resolved).map(|(spec, user)| self.plan_one(spec, user)).collect()
    }

    fn plan_one(&self, spec: &RecipientSpec, user: &Resolved) -> RecipientPlan {
        let deliveries = self.channels.iter().filter_map(|(c, fast)| self.delivery(spec, user, c, *fast)).collect();
        RecipientPlan { user_id: spec.user_id.clone(), generation: user.generation, deliveries }
    }

    /// `None`: nobody asked for this channel and the user has no address for it.
    fn delivery(&self, spec: &RecipientSpec, user: &Resolved, channel: &Known, fast: bool) -> Option<DeliveryPlan> {
        let (recipient, recipient_inline) = address(spec, &user.contact, channel);
        let reachable = channel.in_app || recipient.is_some();
        if !reachable && !self.named {
            return None;
        }
        let suppressed = if user.disabled {
            Some(reason::USER_DISABLED.to_owned())
        } else if !reachable {
            Some(reason::NO_ADDRESS.to_owned())
        } else {
            let question = Question {
                user: &spec.user_id,
                contact: &user.contact,
                channel: &channel.name,
                notification_type: &self.notification_type,
                priority: self.priority,
            };
            match self.policy.decide(&question) {
                Decision::Send => None,
            }
        };
        Some(DeliveryPlan {
            id: DeliveryId::new(),
            channel: channel.name.clone(),
            recipient,
            recipient_inline,
            in_app: channel.in_app,
            suppressed,
            fast,
        })
    }
}

/// An address given inline goes before the stored one. (address, given inline)
fn address(spec: &RecipientSpec, contact: &Contact, channel: &Known) -> (Option<String>, bool) {
    if channel.in_app {
        return (None, false);
    }
    match spec.addresses.get(&channel.name) {
        Some(inline) => (Some(inline.clone()), true),
        None => (contact.address(&channel.name).map(ToOwned::to_owned), false),
    }
}

/// Open while the queue is no longer than what its consumers hold; for `low` only while it is empty. Not known is long.
fn fast_path(priority: Priority, depth: Option<u64>, prefetch: u64) -> bool {
    match (priority, depth) {
        (_, None) => false,
        (Priority::Low, Some(depth)) => depth == 0,
        (_, Some(depth)) => depth <= prefetch,
    }
}

fn gone(name: &ChannelName) -> Known {
    Known { name: name.clone(), enabled: false, in_app: false }
}

#[cfg(test)]
mod tests {
    use super::{super::directory::fake::Fake, super::policy::SendNow, *};
    use async_trait::async_trait;
    use campanile_model::{
        AppId, Content, NotificationId,
        ports::{QueueError, Subscription},
    };
    use std::sync::Arc;

    struct Depth(Option<u64>);
    #[async_trait]
    impl WorkQueue for Depth {
        async fn publish(&self, _: &ChannelName, _: &[DeliveryId]) -> Result<(), QueueError> {
            Ok(())
        }
        fn depth(&self, _: &ChannelName) -> Option<u64> {
            self.0
        }
        async fn subscribe(&self, _: &ChannelName, _: u16) -> Result<Box<dyn Subscription>, QueueError> {
            Err(QueueError::Closed)
        }
        fn health(&self) -> Result<(), QueueError> {
            Ok(())
        }
    }

    fn notification(priority: Priority) -> Notification {
        Notification {
            id: NotificationId::new(),
            app: AppId::default(),
            content: Arc::new(Content {
                title: "t".into(),
                message: String::new(),
                notification_type: "general".into(),
                data: serde_json::Map::new(),
            }),
            priority,
            created_at: chrono::DateTime::UNIX_EPOCH,
            send_at: None,
            expires_at: None,
            collapse_key: None,
            request_id: String::new(),
            trace: None,
        }
    }

    fn with_email(email: &str) -> Resolved {
        Resolved { contact: Contact { email: Some(email.into()), ..Contact::default() }, ..Resolved::default() }
    }

    fn plan(named: Option<&[&str]>, spec: RecipientSpec, user: Resolved) -> Vec<DeliveryPlan> {
        let named: Option<Vec<ChannelName>> = named.map(|n| n.iter().map(|n| ChannelName::from(*n)).collect());
        let n = notification(Priority::Normal);
        let planner = Planner::new(&Fake, named.as_deref(), &n, &SendNow, &Depth(Some(0)), 10);
        planner.plan(&[spec], &[user]).remove(0).deliveries
    }

    fn plain() -> RecipientSpec {
        RecipientSpec { user_id: "u".into(), addresses: std::collections::BTreeMap::default() }
    }

    fn inline(channel: &str, address: &str) -> RecipientSpec {
        RecipientSpec { addresses: [(channel.into(), address.into())].into(), ..plain() }
    }

    fn shape(deliveries: &[DeliveryPlan]) -> Vec<(&str, Option<&str>, Option<&str>)> {
        deliveries.iter().map(|d| (d.channel.as_str(), d.recipient.as_deref(), d.suppressed.as_deref())).collect()
    }

    #[test]
    fn by_default_every_enabled_channel_with_an_address() {
        assert_eq!(shape(&plan(None, plain(), Resolved::default())), [("websocket", None, None)]);
        assert_eq!(
            shape(&plan(None, plain(), with_email("a@b.c"))),
            [("email", Some("a@b.c"), None), ("websocket", None, None)]
        );
        // sms is switched off: an address for it changes nothing.
        assert_eq!(shape(&plan(None, inline("sms", "+49"), Resolved::default())), [("websocket", None, None)]);
    }

    #[test]
    fn an_inline_address_goes_first_and_is_remembered_as_such() {
        let d = plan(Some(&["email"]), inline("email", "new@b.c"), with_email("old@b.c"));
        assert_eq!(shape(&d), [("email", Some("new@b.c"), None)]);
        assert!(d[0].recipient_inline);
        assert!(!plan(Some(&["email"]), plain(), with_email("old@b.c"))[0].recipient_inline);
    }

    #[test]
    fn a_named_channel_without_an_address_is_suppressed_in_the_callers_order() {
        let d = plan(Some(&["websocket", "email"]), plain(), Resolved::default());
        assert_eq!(shape(&d), [("websocket", None, None), ("email", None, Some("no_address"))]);
        assert!(d[0].in_app && !d[1].in_app);
    }

    #[test]
    fn a_disabled_user_gets_nothing() {
        let user = Resolved { disabled: true, generation: 3, ..with_email("a@b.c") };
        let d = plan(None, plain(), user);
        assert!(d.iter().all(|d| d.suppressed.as_deref() == Some("user_disabled")));
        assert_eq!(d.len(), 2);
    }

    #[test]
    fn the_fast_path_closes_when_the_queue_is_long() {
        for (priority, depth, open) in [
            (Priority::Normal, Some(0), true),
            (Priority::Normal, Some(10), true),
            (Priority::High, Some(11), false),
            (Priority::Low, Some(0), true),
            (Priority::Low, Some(1), false),
            (Priority::High, None, false),
        ] {
            let n = notification(priority);
            let planner = Planner::new(&Fake, None, &n, &SendNow, &Depth(depth), 10);
            let d = planner.plan(&[plain()], &[with_email("a@b.c")]).remove(0).deliveries;
            assert_eq!(d.iter().map(|d| d.fast).collect::<Vec<_>>(), [open, false], "{priority} {depth:?}");
        }
    }
}
