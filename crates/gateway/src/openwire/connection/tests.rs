//! Connections over a pipe, with an engine that knows no cluster.

use quorate_message::{GatewayId, ProducerId};
use quorate_service::shutdown::Shutdown;
use quorate_wire::openwire::{
    CommandId, ConnectionId, ConnectionInfo, KeepAliveInfo, Offer, WireFormatInfo,
};
use tokio::{io::DuplexStream, sync::watch, task::JoinHandle};

use super::*;
use crate::{
    accounts::Accounts,
    browse::Browser,
    engine::Engine,
    metrics::GatewayMetrics,
    nodes::Nodes,
    openwire::{Announcements, Clients, Exchange},
    session::{Config, Core},
    topology::ClusterView,
};

/// For what must come: long past any doubt.
const PATIENCE: Duration = Duration::from_secs(30);

fn context() -> Arc<Context> {
    let core = Core::new(Config {
        incarnation: GatewayId([3; 16]),
        producer: ProducerId([1; 16]),
        transient_producer: ProducerId([2; 16]),
        deadline_micros: 30_000_000,
        memory_bytes: 16 << 20,
    });
    let (engine, _wishes) = Engine::start(core, GatewayMetrics::default());
    let (_, view) = watch::channel(ClusterView::default());
    Arc::new(Context {
        engine,
        browser: Browser {
            nodes: Nodes::new(view.clone(), PATIENCE),
        },
        accounts: Accounts::default(),
        clients: Clients::default(),
        announcements: Announcements::default(),
        exchange: Exchange::over(),
        view,
        shutdown: Shutdown::new(),
        broker_id: "ID:gw01-1".to_owned(),
        name: "gw01".to_owned(),
        url: "tcp://gw01:61616".to_owned(),
        message_bytes_max: 1 << 20,
    })
}

/// A client that has said how it speaks and who it is, and its connection here.
async fn connected(inactivity: Duration) -> (DuplexStream, Format, JoinHandle<()>) {
    let (mut client, here) = tokio::io::duplex(1024);
    let peer = SocketAddr::from(([127, 0, 0, 1], 40_123));
    let served = tokio::spawn(serve(here, (peer, Serves::Everything), context()));
    let offer = Offer {
        inactivity,
        inactivity_initial_delay: Duration::ZERO,
        ..Offer::default()
    };
    let info: WireFormatInfo = offer.info();
    let format = offer.agree(&info).expect("its own offer");
    say(&mut client, &format, &Command::WireFormatInfo(info)).await;
    let login = ConnectionInfo {
        connection_id: ConnectionId {
            value: "ID:host-1-1:1".to_owned(),
        },
        header: Header::default(),
        client_id: None,
        password: None,
        user_name: None,
        broker_path: None,
        broker_master_connector: false,
        manageable: true,
        client_master: true,
        fault_tolerant: false,
        failover_reconnect: false,
        client_ip: None,
    };
    say(
        &mut client,
        &format,
        &Command::ConnectionInfo(Box::new(login)),
    )
    .await;
    (client, format, served)
}

async fn say(client: &mut DuplexStream, format: &Format, command: &Command) {
    let mut said = BytesMut::new();
    openwire::encode(command, format, &mut said).expect("it fits a frame");
    client.write_all(&said).await.expect("it is listened to");
}

/// A request whose answer is as long as itself.
fn echo() -> Command {
    Command::KeepAliveInfo(KeepAliveInfo {
        header: Header {
            command_id: CommandId(1),
            response_required: true,
        },
    })
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_silent_though_it_is_not_listened_to() {
    let (mut client, format, served) = connected(Duration::from_millis(300)).await;
    // As much as is listened to while it takes none of the answers.
    let mut said = BytesMut::new();
    for _ in 0..OPENWIRE_OUT_BYTES {
        openwire::encode(&echo(), &format, &mut said).expect("it fits a frame");
    }
    let sending = tokio::spawn(async move { (client.write_all(&said).await, client) });
    let ended = tokio::time::timeout(PATIENCE, served).await;
    ended
        .expect("the connection is given up")
        .expect("without a panic");
    let (sent, _client) = sending.await.expect("it ends as well");
    assert!(sent.is_err(), "not all was listened to");
}

#[test]
fn a_short_time_of_inactivity_is_no_flood_of_signs_of_life() {
    assert_eq!(
        alive_after(Duration::from_secs(30)),
        Duration::from_secs(10)
    );
    assert_eq!(alive_after(Duration::from_millis(1)), OPENWIRE_ALIVE_MIN);
}

fn publish(call: u64, producer: u8) -> session::Input {
    session::Input::Publish {
        call: CallId(call),
        producer: Some(ProducerId([producer; 16])),
        messages: vec![Err("nothing".into())],
        trace: None,
    }
}

#[test]
fn sends_of_one_producer_are_told_together_and_no_others() {
    let mut earlier = publish(1, 1);
    assert!(joined(&mut earlier, publish(1, 1)).is_none());
    assert!(joined(&mut earlier, publish(1, 2)).is_some());
    assert!(joined(&mut earlier, publish(2, 1)).is_some());
    let call = CallId(1);
    assert!(joined(&mut earlier, session::Input::Finished { call }).is_some());
    let session::Input::Publish { messages, .. } = earlier else {
        panic!("it stays what it is");
    };
    assert_eq!(messages.len(), 2);
}

#[tokio::test]
async fn who_came_by_the_port_for_openwire_is_told_of_no_other() {
    let context = context();
    assert_eq!(context.peers(Serves::Everything), ["tcp://gw01:61616"]);
    assert!(context.peers(Serves::OpenWire).is_empty());
}
