//! TLS on connections that are made: by URL, and by what one of them is told.

mod certificates;
mod closures;
mod common;
mod outgoing;

use certificates::{Authority, BOTH};
use closures::Script;
use outgoing::{Told, reporter};
use tightloop::tls::TlsConnector;
use tightloop::{CloseReason, Connect, Direction};

every_driver! {
    fn an_outgoing_connection_has_the_tls_of_its_own_or_that_of_its_url(driver) {
        let (known, other) = (Authority::new(), Authority::new());
        let server = common::server(driver).listen("tls://127.0.0.1:0").tls(known.server(BOTH));
        let server = common::start(server, |_| Script::new());
        let port = common::address(&server, 0).port();
        let to = |url: String| Connect::to(&url.parse().unwrap());
        let named = TlsConnector::new(known.client(BOTH)).with_server_name("localhost").unwrap();
        let (trusting, distrusting) = (known.client(BOTH), other.client(BOTH));
        for (default, connect, opens) in [
            (&known, to(format!("tls://localhost:{port}")), true),
            (&other, to(format!("tls://localhost:{port}")), false),
            (&other, to(format!("tls://localhost:{port}")).tls(trusting.clone()), true),
            (&other, to(format!("tcp://localhost:{port}")).tls(trusting), true),
            (&other, to(format!("tcp://127.0.0.1:{port}")).tls(named), true),
            (&known, to(format!("tcp://localhost:{port}")).tls(distrusting), false),
        ] {
            let (told, events) = common::events();
            let (sent, answers) = common::events();
            let client = common::client(driver).tls_client(default.client(BOTH));
            let client = client
                .start(move |_| {
                    let sent = sent.clone();
                    reporter(&told).traffic(move |_, input| {
                        sent.send(input.take_all().to_vec()).unwrap();
                        tightloop::Action::Continue
                    })
                })
                .unwrap();
            let text = format!("{connect:?}");
            client.connect(connect).unwrap();
            match events.next() {
                Told::Opened { direction: Direction::Outgoing, .. } if opens => {
                    assert_eq!(answers.next(), b"greeting", "{text}");
                }
                Told::Failed { reason: CloseReason::Tls(_), .. } if !opens => {}
                told => panic!("{text}: {told:?}"),
            }
            client.stop();
            client.join().unwrap();
        }
        common::stop(server);
    }
}
