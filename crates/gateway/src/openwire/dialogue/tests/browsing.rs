//! Browsers.

use super::*;

fn browse(bench: &mut Bench, prefetch: i32) -> u64 {
    let mut info = consumer_info(1);
    info.browser = true;
    info.prefetch_size = prefetch;
    info.selector = Some("a = 1".to_owned());
    let effects = bench.ask(|header| {
        info.header = header;
        Command::ConsumerInfo(Box::new(info))
    });
    assert_eq!(response(&effects), None);
    assert!(
        told(&effects).is_empty(),
        "it takes nothing out of the queue"
    );
    let [
        _,
        Effect::Browse {
            browser,
            queue,
            selector: Some(_),
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!(queue.as_str(), "orders");
    *browser
}

fn page(
    bench: &mut Bench,
    browser: u64,
    entries: std::ops::Range<u64>,
    is_end: bool,
) -> Vec<Effect> {
    let messages = entries.map(|entry| BrowsedMessage {
        shard: SHARD,
        position: MessagePosition::new(entry, 0),
        delivery_count: 2,
        message: delivery(entry).message,
    });
    let messages = messages.collect();
    bench.step(Input::Browsed {
        browser,
        messages,
        is_end,
    })
}

/// Messages shown, and whether the end is.
fn shown(effects: &[Effect]) -> (usize, bool) {
    let dispatched = dispatched(effects);
    let messages = dispatched.iter().filter(|d| d.message.is_some()).count();
    (messages, messages < dispatched.len())
}

fn asks_for_more(effects: &[Effect]) -> bool {
    matches!(effects.last(), Some(Effect::BrowseMore { .. }))
}

#[test]
fn a_queue_is_shown_page_by_page_and_then_the_end() {
    let mut bench = Bench::open();
    let browser = browse(&mut bench, 500);
    let effects = page(&mut bench, browser, 1..4, false);
    assert_eq!(shown(&effects), (3, false));
    assert_eq!(dispatched(&effects)[0].redelivery_counter, 2);
    assert!(asks_for_more(&effects));
    let effects = page(&mut bench, browser, 4..5, true);
    assert_eq!(shown(&effects), (1, true));
}

#[test]
fn an_empty_queue_ends_at_once() {
    let mut bench = Bench::open();
    let browser = browse(&mut bench, 500);
    assert_eq!(shown(&page(&mut bench, browser, 1..1, true)), (0, true));
}

#[test]
fn acknowledgements_only_move_the_window() {
    let mut bench = Bench::open();
    let browser = browse(&mut bench, 2);
    let effects = page(&mut bench, browser, 1..6, true);
    assert_eq!(shown(&effects), (2, false));
    let last = |effects: &[Effect]| {
        let dispatched = dispatched(effects);
        let mut messages = dispatched.iter().filter_map(|d| d.message.as_ref());
        messages.next_back().expect("a message").message_id.clone()
    };
    let effects = bench.acknowledge(1, AckType::Standard, None, &last(&effects));
    assert!(told(&effects).is_empty());
    assert_eq!(shown(&effects), (2, false));
    let effects = bench.acknowledge(1, AckType::Standard, None, &last(&effects));
    assert_eq!(shown(&effects), (1, true));
}

#[test]
fn a_browser_that_is_closed_asks_for_no_more() {
    let mut bench = Bench::open();
    let browser = browse(&mut bench, 500);
    let effects = bench.ask(|header| remove(header, Removed::Consumer(consumer_id(1)), -1));
    assert_eq!(response(&effects), None);
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::StopBrowse { browser: of } if *of == browser))
    );
    assert!(page(&mut bench, browser, 1..4, false).is_empty());
}

#[test]
fn a_queue_that_cannot_be_shown_is_an_error_and_an_end() {
    let mut bench = Bench::open();
    let browser = browse(&mut bench, 500);
    let reason = "no leader".to_owned();
    let effects = bench.step(Input::BrowseFailed { browser, reason });
    assert_eq!(errors(&effects).len(), 1);
    assert_eq!(shown(&effects), (0, true));
}

#[test]
fn only_one_queue_is_browsed() {
    let mut bench = Bench::open();
    for destination in [topic("prices"), queue("a,b"), queue("a.>")] {
        let mut info = consumer_info(1);
        info.browser = true;
        info.destination = destination;
        let effects = bench.ask(|header| {
            info.header = header;
            Command::ConsumerInfo(Box::new(info))
        });
        let class = response(&effects);
        assert_eq!(
            class.as_deref(),
            Some("javax.jms.InvalidDestinationException")
        );
    }
}
