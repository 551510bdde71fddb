//! Tests of the configuration: precedence, types, and above all the errors.

use std::net::SocketAddr;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    name: String,
    listen: SocketAddr,
    shards: u16,
    coordinators: Vec<String>,
    numbers: Vec<u32>,
    otlp_endpoint: Option<String>,
    fancy: bool,
    format: Format,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "one".to_owned(),
            listen: "127.0.0.1:1".parse().expect("an address"),
            shards: 8,
            coordinators: vec!["127.0.0.1:62001".to_owned()],
            numbers: Vec::new(),
            otlp_endpoint: None,
            fancy: false,
            format: Format::Text,
        }
    }
}

fn load_from(
    file: Option<&str>,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Config, String> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let flags: Vec<_> = flags
        .iter()
        .map(|(key, value)| (*key, (*value).to_owned()))
        .collect();
    let file = file.map(|text| (PathBuf::from("/etc/q.toml"), text.to_owned()));
    assemble(file, environment, &flags).map_err(|error| error.to_string())
}

#[test]
fn nothing_given_is_the_default() {
    assert_eq!(load_from(None, &[], &[]), Ok(Config::default()));
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let config = load_from(
        Some("name = 'file'\nshards = 3\nfancy = true"),
        &[("QUORATE_NAME", "environment"), ("QUORATE_SHARDS", "4")],
        &[("name", "flag")],
    )
    .expect("a good configuration");
    assert_eq!(config.name, "flag");
    assert_eq!(config.shards, 4);
    assert!(config.fancy);
}

#[test]
fn text_becomes_every_type() {
    let config = load_from(
        None,
        &[
            ("QUORATE_LISTEN", "[::1]:7"),
            ("QUORATE_COORDINATORS", "a:1, b:2"),
            ("QUORATE_NUMBERS", "1,2,3"),
            ("QUORATE_OTLP_ENDPOINT", "http://x:4317"),
            ("QUORATE_FANCY", "true"),
            ("QUORATE_FORMAT", "json"),
        ],
        &[],
    )
    .expect("a good configuration");
    assert_eq!(config.listen, "[::1]:7".parse().expect("an address"));
    assert_eq!(config.coordinators, ["a:1", "b:2"]);
    assert_eq!(config.numbers, [1, 2, 3]);
    assert_eq!(config.otlp_endpoint.as_deref(), Some("http://x:4317"));
    assert!(config.fancy);
    assert_eq!(config.format, Format::Json);
    let unset = load_from(None, &[("QUORATE_OTLP_ENDPOINT", "")], &[]);
    assert_eq!(unset.expect("a good configuration").otlp_endpoint, None);
}

#[test]
fn errors_name_the_place_the_key_and_the_remedy() {
    for (file, environment, expected) in [
        (
            Some("shrads = 3"),
            None,
            "configuration file /etc/q.toml: unknown field `shrads`, expected one of `name`, `listen`",
        ),
        (
            Some("shards = 'x'"),
            None,
            "configuration file /etc/q.toml: key `shards`: invalid type: string \"x\", expected u16",
        ),
        (
            Some("shards = 70000"),
            None,
            "configuration file /etc/q.toml: key `shards`: invalid value: integer `70000`, expected u16",
        ),
        (
            None,
            Some(("QUORATE_SHARDS", "many")),
            "environment variable QUORATE_SHARDS: key `shards`: invalid value: string \"many\", expected u16",
        ),
        (
            None,
            Some(("QUORATE_LISTEN", "nowhere")),
            "environment variable QUORATE_LISTEN: key `listen`: invalid socket address syntax",
        ),
        (
            None,
            Some(("QUORATE_NUMBERS", "1,x")),
            "environment variable QUORATE_NUMBERS: key `numbers`: invalid value: string \"x\", expected u32",
        ),
        (
            None,
            Some(("QUORATE_FORMAT", "xml")),
            "environment variable QUORATE_FORMAT: key `format`: unknown variant `xml`, expected `text` or `json`",
        ),
        (
            None,
            Some(("QUORATE_SHRADS", "1")),
            "environment variable QUORATE_SHRADS: unknown field `shrads`, expected one of",
        ),
    ] {
        let environment: Vec<_> = environment.into_iter().collect();
        let error = load_from(file, &environment, &[]).expect_err("a bad configuration");
        assert!(error.starts_with(expected), "{error}");
    }
    let error = load_from(Some("name = "), &[], &[]).expect_err("no TOML");
    assert!(
        error.starts_with("configuration file /etc/q.toml: TOML parse error at line 1"),
        "{error}"
    );
}

#[test]
fn variables_of_the_command_line_tool_are_not_keys() {
    let environment = RESERVED.map(|key| (format!("{PREFIX}{key}"), String::new()));
    let loaded: Result<Config, _> = assemble(None, environment.to_vec(), &[]);
    assert_eq!(loaded.expect("a good configuration"), Config::default());
}

#[test]
fn a_file_is_read_and_a_missing_one_is_named() {
    let arguments = |config: PathBuf| Arguments {
        config: Some(config),
        ..Arguments::default()
    };
    let error = read(Path::new("/nonexistent/q.toml")).expect_err("no such file");
    assert!(error.to_string().contains("/nonexistent/q.toml"), "{error}");
    let error = read(Path::new("/dev/zero")).expect_err("endless");
    assert!(error.to_string().contains("larger than"), "{error}");
    let manifest = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let error = load::<Config>(&arguments(manifest)).expect_err("another kind of file");
    assert!(error.to_string().contains("unknown field"), "{error}");
}

#[test]
fn what_is_shown_loads_to_the_same() {
    let config = load_from(None, &[("QUORATE_NUMBERS", "5,6")], &[]).expect("good");
    let text = show(&config).expect("it can be shown");
    assert_eq!(
        parse::<Config>(Path::new("shown"), &text).expect("good"),
        config
    );
}
