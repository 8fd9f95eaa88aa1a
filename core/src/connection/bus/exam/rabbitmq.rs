//! What only RabbitMQ has: queues with arguments, an exchange that somebody deletes.

use super::*;
use crate::{
    amqp::{testing::Vhost, topology::BUS_EXCHANGE},
    connection::bus::NodeBus,
};
use campanile_model::ports::Bus;
use serde_json::json;

async fn place() -> Option<Place> {
    if asked("rabbitmq") { Some(Place::rabbitmq().await) } else { None }
}

fn vhost(place: &Place) -> &Vhost {
    let Place::Rabbit(vhost) = place else { panic!("it is RabbitMQ's") };
    vhost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_of_a_link_is_its_own_bounded_and_new_each_time() {
    let Some(place) = place().await else { return };
    let proxy = place.proxy().await;
    let node = place.node_at(proxy.address()).await;
    let queue = vhost(&place).queues().await.remove(0);
    let name = queue["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("campanile.bus."), "{queue}");
    for (key, value) in [
        ("exclusive", json!(true)),
        ("auto_delete", json!(true)),
        ("durable", json!(false)),
        ("type", json!("classic")),
        (
            "arguments",
            json!({"x-queue-type": "classic", "x-max-length": 50_000, "x-max-length-bytes": 67_108_864,
                "x-overflow": "drop-head", "x-message-ttl": 30_000}),
        ),
    ] {
        assert_eq!(queue[key], value, "{key}");
    }
    proxy.set(Mode::Reset);
    node.is(false).await;
    proxy.set(Mode::Pass);
    node.is(true).await;
    let names: Vec<_> = vhost(&place).queues().await.iter().map(|q| q["name"].clone()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_ne!(names[0], json!(name));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_somebody_deletes_is_made_again() {
    let Some(place) = place().await else { return };
    let (a, b) = (place.node().await, place.node().await);
    vhost(&place).delete_exchange(BUS_EXCHANGE).await;
    a.publish(named("into the void"));
    a.ear.until("a is back", |ear| ear.missed() == 2).await;
    // Nobody told b; its own next try does.
    b.ear.until("b is back", |ear| ear.missed() == 2).await;
    a.publish(named("again"));
    b.ear.hears("again").await;
}
