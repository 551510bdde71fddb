//! Addresses: `failover:(tcp://a:60001,tcp://b:60001)?randomize=false`, or one of `tcp://a:60001`, `http://a:60001`,
//! `a:60001`, with the same options.
//!
//! The options have ActiveMQ's names. One gateway alone is treated as a list of one: it is tried again and again too.

use std::{fmt, str::FromStr, time::Duration};

use crate::limits::GATEWAYS;

const KNOWN: &str = "initialReconnectDelay, maxReconnectDelay, randomize, timeout";

/// Where the gateways are, and how to fail over between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    gateways: Vec<String>,
    options: FailoverOptions,
    has_timeout: bool,
}

/// How to fail over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverOptions {
    /// `initialReconnectDelay`, milliseconds: pause before the gateways are tried a second time; doubles each round.
    pub initial_reconnect_delay: Duration,
    /// `maxReconnectDelay`, milliseconds: the longest such pause.
    pub max_reconnect_delay: Duration,
    /// `randomize`: whether to try the gateways in random order, which spreads clients over them.
    pub randomize: bool,
    /// `timeout`, milliseconds: how long nothing may come of what was asked for before it fails; none: for ever.
    pub timeout: Option<Duration>,
}

impl Default for FailoverOptions {
    fn default() -> Self {
        Self {
            initial_reconnect_delay: Duration::from_millis(10),
            max_reconnect_delay: Duration::from_secs(1),
            randomize: true,
            timeout: None,
        }
    }
}

/// Why an address cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no gateway in it.
    #[error(
        "`{0}` names no gateway; write failover:(tcp://host:60001,tcp://host:60002) or host:60001"
    )]
    Empty(String),
    /// There are too many gateways in it.
    #[error("an address names at most {GATEWAYS} gateways")]
    TooMany,
    /// A parenthesis is missing.
    #[error("`{0}` lacks a parenthesis; write failover:(tcp://host:60001,tcp://host:60002)")]
    Parenthesis(String),
    /// A gateway is not `host:port`.
    #[error("gateway `{0}` is not host:port; write tcp://host:60001 ([address]:port for IPv6)")]
    Gateway(String),
    /// The scheme is not one of ours.
    #[error("scheme `{0}` is not known; known are failover, tcp and http")]
    Scheme(String),
    /// The option is not known.
    #[error("option `{0}` is not known; known are {KNOWN}")]
    UnknownOption(String),
    /// The option's value cannot be read.
    #[error("option `{name}={value}`: {expected} is expected")]
    Value {
        /// The option.
        name: String,
        /// Its value.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl Address {
    /// Returns the gateways, `host:port`, in the order in which they were written.
    #[must_use]
    pub fn gateways(&self) -> &[String] {
        &self.gateways
    }

    /// Returns how to fail over.
    #[must_use]
    pub fn options(&self) -> &FailoverOptions {
        &self.options
    }

    /// Replaces the `timeout` if none is written (-1 is written too: it means for ever).
    #[must_use]
    pub fn with_default_timeout(mut self, timeout: Duration) -> Self {
        if !self.has_timeout {
            self.options.timeout = Some(timeout);
        }
        self
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.gateways.join(", "))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let (list, options) = match text.strip_prefix("failover:") {
            Some(rest) => failover(text, rest)?,
            None => text.split_once('?').unwrap_or((text, "")),
        };
        let gateways: Vec<String> = list
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(gateway)
            .collect::<Result<_, _>>()?;
        if gateways.is_empty() {
            return Err(AddressError::Empty(text.to_owned()));
        }
        if gateways.len() > GATEWAYS {
            return Err(AddressError::TooMany);
        }
        Ok(Self {
            gateways,
            has_timeout: options
                .split('&')
                .any(|option| option.starts_with("timeout=")),
            options: parse_options(options)?,
        })
    }
}

/// Splits what follows `failover:` into the list and the options. ActiveMQ allows `//` and the parentheses to be there or not.
fn failover<'a>(whole: &str, rest: &'a str) -> Result<(&'a str, &'a str), AddressError> {
    let unbalanced = || AddressError::Parenthesis(whole.to_owned());
    let rest = match rest.strip_prefix("//") {
        Some(stripped) => stripped,
        None => rest,
    };
    let Some(rest) = rest.strip_prefix('(') else {
        if rest.contains(')') {
            return Err(unbalanced());
        }
        return Ok(rest.split_once('?').unwrap_or((rest, "")));
    };
    let (list, tail) = rest.split_once(')').ok_or_else(unbalanced)?;
    if tail.is_empty() {
        return Ok((list, ""));
    }
    let options = tail.strip_prefix('?').ok_or_else(unbalanced)?;
    Ok((list, options))
}

fn gateway(part: &str) -> Result<String, AddressError> {
    let host_port = match part.split_once("://") {
        Some(("tcp" | "http", rest)) => rest.trim_end_matches('/'),
        Some((scheme, _)) => return Err(AddressError::Scheme(scheme.to_owned())),
        None => part,
    };
    let wrong = || AddressError::Gateway(part.to_owned());
    let (host, port) = host_port.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let ipv6 = bracketed
        && host[1..host.len() - 1]
            .parse::<std::net::Ipv6Addr>()
            .is_ok();
    let port: u16 = port.parse().map_err(|_| wrong())?;
    if port == 0 || !(plain || ipv6) {
        return Err(wrong());
    }
    Ok(format!("{host}:{port}"))
}

fn parse_options(text: &str) -> Result<FailoverOptions, AddressError> {
    let mut options = FailoverOptions::default();
    for option in text.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let wrong = |expected| AddressError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            expected,
        };
        let milliseconds = || {
            value
                .parse()
                .map(Duration::from_millis)
                .map_err(|_| wrong("a number of milliseconds"))
        };
        match name {
            "initialReconnectDelay" => options.initial_reconnect_delay = milliseconds()?,
            "maxReconnectDelay" => options.max_reconnect_delay = milliseconds()?,
            "randomize" => {
                options.randomize = value.parse().map_err(|_| wrong("true or false"))?;
            }
            // As with ActiveMQ, -1 is for ever.
            "timeout" if value == "-1" => options.timeout = None,
            "timeout" => options.timeout = Some(milliseconds()?),
            _ => return Err(AddressError::UnknownOption(name.to_owned())),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateways(text: &str) -> Vec<String> {
        text.parse::<Address>()
            .map_or_else(|error| vec![error.to_string()], |address| address.gateways)
    }

    #[test]
    fn every_way_to_write_it_is_read() {
        for text in [
            "failover:(tcp://a:1,tcp://b:2)",
            "failover://(tcp://a:1, tcp://b:2)",
            "failover:tcp://a:1,tcp://b:2",
            "failover:(tcp://a:1,http://b:2)?randomize=false",
            "a:1,b:2",
        ] {
            assert_eq!(gateways(text), ["a:1", "b:2"], "{text}");
        }
        for text in [
            "a:1",
            "tcp://a:1",
            "http://a:1/",
            "tcp://a:1?timeout=5",
            "failover:(a:1)",
        ] {
            assert_eq!(gateways(text), ["a:1"], "{text}");
        }
        assert_eq!(gateways("tcp://[::1]:60001"), ["[::1]:60001"]);
    }

    #[test]
    fn options_have_activemqs_names() {
        let address: Address = "failover:(tcp://a:1)?initialReconnectDelay=5&maxReconnectDelay=70&randomize=false&timeout=3000"
            .parse()
            .expect("a good address");
        assert_eq!(
            address.options,
            FailoverOptions {
                initial_reconnect_delay: Duration::from_millis(5),
                max_reconnect_delay: Duration::from_millis(70),
                randomize: false,
                timeout: Some(Duration::from_secs(3)),
            }
        );
        let address: Address = "a:1?timeout=-1".parse().expect("a good address");
        assert_eq!(address.options, FailoverOptions::default());
        let for_ever = address.with_default_timeout(Duration::from_secs(2));
        assert_eq!(for_ever.options.timeout, None);
        let address: Address = "a:1".parse().expect("a good address");
        let patient = address.with_default_timeout(Duration::from_secs(2));
        assert_eq!(patient.options.timeout, Some(Duration::from_secs(2)));
    }

    #[test]
    fn mistakes_are_named_with_what_would_be_right() {
        for (text, expected) in [
            ("", "names no gateway"),
            ("failover:()", "names no gateway"),
            ("failover:(tcp://a:1", "lacks a parenthesis"),
            ("failover:tcp://a:1)", "lacks a parenthesis"),
            ("failover:(tcp://a:1)x", "lacks a parenthesis"),
            ("tcp://a", "`tcp://a` is not host:port"),
            ("tcp://a:0", "is not host:port"),
            ("tcp://a:70000", "is not host:port"),
            ("tcp://a b:1", "is not host:port"),
            ("tcp://user@a:1", "is not host:port"),
            ("ssl://a:1", "scheme `ssl` is not known"),
            (
                "a:1?maxReconnectAttempts=3",
                "option `maxReconnectAttempts` is not known; known are initialReconnectDelay",
            ),
            (
                "a:1?randomize=maybe",
                "option `randomize=maybe`: true or false",
            ),
            (
                "a:1?timeout=1s",
                "option `timeout=1s`: a number of milliseconds",
            ),
        ] {
            let found = gateways(text).join(";");
            assert!(found.contains(expected), "{text}: {found}");
        }
        let many = vec!["a:1"; GATEWAYS + 1].join(",");
        assert!(gateways(&many)[0].contains("at most"));
    }
}
