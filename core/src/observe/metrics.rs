//! Every metric of `/metrics`, with closed label sets. Never a user, address, notification or free error text as a label.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, text::encode},
    metrics::{MetricType, TypedMetric, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    fmt,
    sync::{Mutex, OnceLock},
};

macro_rules! labels {
    ($name:ident { $($field:ident),+ }) => {
        #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
        pub struct $name { $(pub $field: String),+ }
        impl $name {
            pub fn new($($field: impl Into<String>),+) -> Self { Self { $($field: $field.into()),+ } }
        }
    };
}
labels!(ByReason { reason });
labels!(ByChannel { channel });
labels!(ByQueue { queue });
labels!(ByTransport { transport });
labels!(ByOutcome { outcome });
labels!(ByEvent { event });
labels!(ByState { state });
labels!(ByQuery { query });
labels!(ByPlugin { plugin });
labels!(PluginOutcome { plugin, outcome });
labels!(ByRole { role });
labels!(PrioritySource { priority, source });
labels!(ChannelOutcome { channel, outcome });
labels!(ChannelReason { channel, reason });
labels!(ChannelPriority { channel, priority });
labels!(QueueState { queue, state });
labels!(TransportReason { transport, reason });
labels!(RouteLabels { method, route, status_class });
labels!(MethodRoute { method, route });
labels!(BuildInfo { version, commit });

/// A count whose family can't be called a counter: a counter `x` is written as `x_total`, and here `x` is taken by the
/// gauge of the same things. OpenMetrics forbids two families of one name, so this one is of type `unknown`.
#[derive(Clone, Debug, Default)]
pub struct Tally(Counter);

impl Tally {
    pub fn inc(&self) {
        self.0.inc();
    }
}

impl TypedMetric for Tally {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Tally {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        // As a gauge: the bare name with the value, without a second `_total`.
        encoder.encode_gauge(&i64::try_from(self.0.get()).unwrap_or(i64::MAX))
    }
    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Histograms of a family share one constructor.
pub type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn attempt_seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}
fn latency_seconds() -> Histogram {
    Histogram::new([0.01, 0.025, 0.06, 0.15, 0.4, 1.0, 2.5, 6.0, 15.0, 40.0, 100.0, 250.0, 600.0, 1500.0, 3600.0])
}
fn short_seconds() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0])
}
fn buffer_bytes() -> Histogram {
    Histogram::new([0.0, 1024.0, 4096.0, 16384.0, 65536.0, 131_072.0, 262_144.0])
}

/// Families that somebody else keeps.
type More = Box<dyn Fn() -> String + Send + Sync>;

macro_rules! metrics {
    ($( $(#[doc = $help:literal])+ $field:ident: $ty:ty = $name:literal, $make:expr; )+) => {
        /// Handles for counting; cheap to use from anywhere.
        pub struct Metrics {
            registry: Mutex<Registry>,
            more: OnceLock<More>,
            $( $(#[doc = $help])+ pub $field: $ty, )+
        }
        impl Metrics {
            pub fn new() -> Self {
                let mut registry = Registry::default();
                $( let $field: $ty = $make; registry.register($name, concat!($($help),+).trim().trim_end_matches('.'), $field.clone()); )+
                let made = Self { registry: Mutex::new(registry), more: OnceLock::new(), $($field),+ };
                made.build_info.get_or_create(&BuildInfo::new(env!("CARGO_PKG_VERSION"), option_env!("CAMPANILE_COMMIT").unwrap_or("unknown"))).set(1);
                made
            }
        }
    };
}

metrics! {
    /// The running build; always 1.
    build_info: Family<BuildInfo, Gauge> = "campanile_build_info", Family::default();
    /// Notifications accepted.
    accepted: Family<PrioritySource, Counter> = "campanile_notifications_accepted", Family::default();
    /// Notifications refused, by the error's code.
    rejected: Family<ByReason, Counter> = "campanile_notifications_rejected", Family::default();
    /// Messages from the broker that were put on the poison list, by why.
    poison: Family<ByReason, Counter> = "campanile_poison_messages", Family::default();
    /// Requests answered from an idempotency key.
    deduplicated: Family<ByReason, Counter> = "campanile_notifications_deduplicated", Family::default();
    /// Deliveries that a rule kept from being tried.
    suppressed: Family<ByReason, Counter> = "campanile_notifications_suppressed", Family::default();
    /// Deliveries that reached a settled state.
    deliveries: Family<ChannelOutcome, Counter> = "campanile_deliveries", Family::default();
    /// Attempts by outcome (ok, retry, permanent, timeout).
    attempts: Family<ChannelOutcome, Counter> = "campanile_delivery_attempts", Family::default();
    /// Failed attempts by cause.
    failures: Family<ChannelReason, Counter> = "campanile_delivery_failures", Family::default();
    /// Duration of one attempt.
    attempt_duration: Histograms<ByChannel> = "campanile_delivery_attempt_duration_seconds", Family::new_with_constructor(attempt_seconds);
    /// From acceptance, or the due time if later, to the first arrival at sent.
    latency: Histograms<ChannelPriority> = "campanile_delivery_latency_seconds", Family::new_with_constructor(latency_seconds);
    /// From due to claimed.
    queue_wait: Histograms<ByQueue> = "campanile_queue_wait_seconds", Family::new_with_constructor(latency_seconds);
    /// Unsettled deliveries.
    queue_depth: Family<QueueState, Gauge> = "campanile_queue_depth", Family::default();
    /// Age of the oldest due delivery.
    queue_oldest_age: Family<ByQueue, Gauge> = "campanile_queue_oldest_age_seconds", Family::default();
    /// Dead letters stored now.
    dead_letters: Family<ByChannel, Gauge> = "campanile_dead_letters", Family::default();
    /// Deliveries given up on.
    dead_letters_total: Family<ByChannel, Tally> = "campanile_dead_letters_total", Family::default();
    /// Permits in use.
    workers_busy: Family<ByQueue, Gauge> = "campanile_workers_busy", Family::default();
    /// Permits in all.
    workers: Family<ByQueue, Gauge> = "campanile_workers", Family::default();
    /// Open sockets and streams.
    connections: Family<ByTransport, Gauge> = "campanile_connections", Family::default();
    /// Users with at least one open socket or stream.
    connected_users: Family<ByTransport, Gauge> = "campanile_connected_users", Family::default();
    /// Sockets opened.
    connections_opened: Family<ByTransport, Counter> = "campanile_connections_opened", Family::default();
    /// Sockets closed, by reason.
    connections_closed: Family<TransportReason, Counter> = "campanile_connections_closed", Family::default();
    /// Handshakes refused, by reason.
    handshakes_refused: Family<ByReason, Counter> = "campanile_handshakes_refused", Family::default();
    /// Resumes by outcome (resumed, reset).
    resumes: Family<ByOutcome, Counter> = "campanile_connection_resumes", Family::default();
    /// Notifications sent again on resume or to close a gap.
    replayed: Counter = "campanile_connection_replayed_messages", Counter::default();
    /// Messages written to sockets.
    messages_sent: Family<ByTransport, Counter> = "campanile_connection_messages_sent", Family::default();
    /// Bytes written to sockets.
    bytes_sent: Family<ByTransport, Counter> = "campanile_connection_sent_bytes", Family::default();
    /// Bytes waiting in a socket's queue when a message is added to a non-empty one.
    send_buffer: Histogram = "campanile_connection_send_buffer_bytes", buffer_bytes();
    /// Round trip of a ping.
    ping: Histograms<ByTransport> = "campanile_connection_ping_seconds", Family::new_with_constructor(short_seconds);
    /// From the commit's push to the last local socket's queue.
    fanout: Histogram = "campanile_fanout_duration_seconds", short_seconds();
    /// Marks set by people.
    inbox_events: Family<ByEvent, Counter> = "campanile_inbox_events", Family::default();
    /// 1 when the channel works.
    channel_up: Family<ByChannel, Gauge> = "campanile_channel_up", Family::default();
    /// 1 while paused.
    channel_paused: Family<ByChannel, Gauge> = "campanile_channel_paused", Family::default();
    /// 0 closed, 1 half open, 2 open.
    breaker_state: Family<ByChannel, Gauge> = "campanile_breaker_state", Family::default();
    /// Calls into a channel's code.
    plugin_call: Histograms<ByPlugin> = "campanile_plugin_call_duration_seconds", Family::new_with_constructor(attempt_seconds);
    /// Times an instance was started again after a crash.
    plugin_restarts: Family<ByPlugin, Counter> = "campanile_plugin_restarts", Family::default();
    /// Resident memory of an instance's process.
    plugin_memory: Family<ByPlugin, Gauge> = "campanile_plugin_memory_bytes", Family::default();
    /// Requests made for plugins, by how they ended (answered, refused, connect, timeout, too_large, invalid).
    plugin_requests: Family<PluginOutcome, Counter> = "campanile_plugin_http_requests", Family::default();
    /// Rendering of templates.
    render_duration: Histograms<ByChannel> = "campanile_template_render_duration_seconds", Family::new_with_constructor(short_seconds);
    /// Renderings that failed.
    render_errors: Family<ByChannel, Counter> = "campanile_template_render_errors", Family::default();
    /// HTTP requests.
    http_requests: Family<RouteLabels, Counter> = "campanile_http_requests", Family::default();
    /// Duration of HTTP requests.
    http_duration: Histograms<MethodRoute> = "campanile_http_request_duration_seconds", Family::new_with_constructor(attempt_seconds);
    /// Database connections by state (in_use, idle).
    db_pool: Family<ByState, Gauge> = "campanile_db_pool_connections", Family::default();
    /// Pools replaced because they had lost their connections.
    db_pool_replaced: Counter = "campanile_db_pool_replaced", Counter::default();
    /// Duration of database work by group of statements.
    db_query: Histograms<ByQuery> = "campanile_db_query_duration_seconds", Family::new_with_constructor(short_seconds);
    /// Writes that shared a commit.
    db_commit_size: Histogram = "campanile_db_commit_writes", Histogram::new([1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0]);
    /// 1 while the connection to RabbitMQ stands, by what it is for.
    broker_connected: Family<ByRole, Gauge> = "campanile_broker_connected", Family::default();
    /// From publishing work to the broker's confirms.
    broker_confirm: Histogram = "campanile_broker_publish_confirm_seconds", attempt_seconds();
    /// 1 while signals of other nodes arrive.
    bus_connected: Gauge = "campanile_bus_connected", Gauge::default();
    /// What the node bus dropped, by why (overflow, expired: signals of ours; lost: messages of others; malformed, unknown, foreign: not understood).
    bus_dropped: Family<ByReason, Counter> = "campanile_bus_dropped", Family::default();
    /// Looks at every connected user's feed because signals may have been lost.
    bus_catch_ups: Counter = "campanile_bus_catch_ups", Counter::default();
    /// How late scheduled work was relayed.
    scheduler_lag: Gauge<f64, std::sync::atomic::AtomicU64> = "campanile_scheduler_lag_seconds", Gauge::default();
    /// Unclaimed due rows.
    outbox_pending: Gauge = "campanile_outbox_pending", Gauge::default();
    /// Counts that had drifted from the rows and were repaired.
    counts_repaired: Counter = "campanile_counts_repaired", Counter::default();
    /// Panics caught, by place.
    panics: Family<ByReason, Counter> = "campanile_panics", Family::default();
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Families that somebody else keeps, as OpenMetrics text without its end. Once.
    pub fn add(&self, more: impl Fn() -> String + Send + Sync + 'static) {
        let _ = self.more.set(Box::new(more));
    }

    /// The whole page in OpenMetrics text.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing to a String can't fail.
        let _ = encode(&mut out, &registry);
        if let Some(more) = self.more.get() {
            let end = "# EOF\n";
            out.truncate(out.strip_suffix(end).map_or(out.len(), str::len));
            out.push_str(&more());
            out.push_str(end);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_families_share_a_name() {
        let metrics = Metrics::new();
        metrics.dead_letters.get_or_create(&ByChannel::new("email")).set(1);
        metrics.dead_letters_total.get_or_create(&ByChannel::new("email")).inc();
        let page = metrics.render();
        assert!(page.contains("campanile_dead_letters{channel=\"email\"} 1\n"), "{page}");
        assert!(page.contains("campanile_dead_letters_total{channel=\"email\"} 1\n"), "{page}");
        let mut seen = HashSet::new();
        for name in page.lines().filter_map(|l| l.strip_prefix("# TYPE ")).filter_map(|l| l.split(' ').next()) {
            assert!(seen.insert(name.to_owned()), "{name} is there twice");
        }
    }
}
