//! What each channel does at its far side: one module per channel.

mod email;
mod email_dialogue;
mod email_host;
mod email_message;
mod email_replies;
mod email_tls;
mod files;
mod files_author;
mod files_checked;
mod files_corpus;
mod files_hostile;
pub mod files_kit;
mod files_latency;
mod files_oldest;
mod files_reload;
mod files_rust;
mod files_shipped;
mod files_static;
mod files_trial;
mod instances;
mod instances_shared;
mod provider;
