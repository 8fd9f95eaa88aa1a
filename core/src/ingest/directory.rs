//! What ingest needs to know of the channels.

use crate::channel::{Guard, Registry};
use campanile_model::ChannelName;

/// A channel as ingest sees it.
#[derive(Clone, Debug)]
pub struct Known {
    pub name: ChannelName,
    pub enabled: bool,
    /// Completed in the accepting commit; needs no address.
    pub in_app: bool,
}

/// The channels of this host, disabled ones too.
pub trait Directory: Send + Sync {
    fn all(&self) -> Vec<Known>;
    fn find(&self, name: &str) -> Option<Known>;
    /// Says what is wrong with an address of this channel.
    fn check_address(&self, channel: &ChannelName, address: &str) -> Result<(), String>;
}

fn known(guard: &Guard) -> Known {
    Known { name: guard.name().clone(), enabled: guard.enabled(), in_app: guard.in_app() }
}

impl Directory for Registry {
    fn all(&self) -> Vec<Known> {
        self.guards().iter().map(|guard| known(guard)).collect()
    }
    fn find(&self, name: &str) -> Option<Known> {
        self.get(&ChannelName::from(name)).map(|guard| known(&guard))
    }
    fn check_address(&self, channel: &ChannelName, address: &str) -> Result<(), String> {
        self.get(channel).map_or(Ok(()), |c| c.check_address(address))
    }
}

#[cfg(test)]
pub(super) mod fake {
    use super::*;

    /// websocket and email are on, sms is off, chat takes anything.
    pub struct Fake;

    impl Directory for Fake {
        fn all(&self) -> Vec<Known> {
            [("chat", true, false), ("email", true, false), ("sms", false, false), ("websocket", true, true)]
                .map(|(name, enabled, in_app)| Known { name: name.into(), enabled, in_app })
                .into()
        }
        fn find(&self, name: &str) -> Option<Known> {
            self.all().into_iter().find(|c| c.name.as_str() == name)
        }
        fn check_address(&self, channel: &ChannelName, address: &str) -> Result<(), String> {
            if channel.as_str() == "email" && !address.contains('@') { Err("has no @".to_owned()) } else { Ok(()) }
        }
    }
}
