//! Wire bodies that more than one stage builds or stores.

use crate::{ChannelName, DeliveryId, DeliveryState, NotificationId, UserId, state::UnknownState};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The 202 body: also what an idempotency key keeps and gives back.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Acceptance {
    pub notification_id: NotificationId,
    /// Always `accepted`.
    #[schema(example = "accepted")]
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<AcceptedDelivery>>,
    /// In place of `deliveries` for more than `ingest.inline_max` recipients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<AcceptedAudience>,
}

#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AcceptedDelivery {
    pub delivery_id: DeliveryId,
    pub user_id: UserId,
    pub channel: ChannelName,
    pub state: ShownState,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AcceptedAudience {
    pub recipients: u32,
}

/// A delivery's state as the API shows it: `pending` with a future due time reads `scheduled`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShownState {
    Scheduled,
    #[serde(untagged)]
    Stored(DeliveryState),
}

impl ShownState {
    pub fn of(state: DeliveryState, due_in_future: bool) -> Self {
        if state == DeliveryState::Pending && due_in_future { Self::Scheduled } else { Self::Stored(state) }
    }
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Stored(s) => s.as_str(),
        }
    }
    /// Every word the API shows.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Scheduled).chain(DeliveryState::ALL.map(Self::Stored))
    }
}

impl FromStr for ShownState {
    type Err = UnknownState;
    fn from_str(s: &str) -> Result<Self, UnknownState> {
        Self::all().find(|v| v.as_str() == s).ok_or_else(|| UnknownState(s.to_owned()))
    }
}

/// By hand: on the wire it is one word, which the derive does not see through the untagged variant.
impl utoipa::PartialSchema for ShownState {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .enum_values(Some(Self::all().map(Self::as_str)))
            .description(Some("A delivery's state; `scheduled` is `pending` with a future due time."))
            .into()
    }
}

impl utoipa::ToSchema for ShownState {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_the_words_that_are_sent() {
        let schema = serde_json::to_value(<ShownState as utoipa::PartialSchema>::schema()).unwrap();
        for state in DeliveryState::ALL.map(ShownState::Stored).into_iter().chain([ShownState::Scheduled]) {
            assert!(schema["enum"].as_array().unwrap().contains(&serde_json::to_value(state).unwrap()), "{state:?}");
            assert_eq!(state.as_str().parse::<ShownState>().unwrap(), state);
        }
    }

    #[test]
    fn scheduled_is_shown_not_stored() {
        let json = |s: ShownState| serde_json::to_string(&s).unwrap();
        assert_eq!(json(ShownState::of(DeliveryState::Pending, true)), "\"scheduled\"");
        assert_eq!(json(ShownState::of(DeliveryState::Sent, true)), "\"sent\"");
        let back: ShownState = serde_json::from_str("\"retrying\"").unwrap();
        assert_eq!(back, ShownState::Stored(DeliveryState::Retrying));
    }
}
