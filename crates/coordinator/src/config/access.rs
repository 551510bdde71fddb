//! How the coordination store is reached, out of the configuration: what goes together, and what the files hold.

use std::{fs, io::Read, path::Path, time::Duration};

use crate::{
    config::{Config, ConfigError, StoreKind},
    limits::{STORE_ENDPOINTS_MAX, STORE_FILE_BYTES, STORE_SESSION_MS_MAX, STORE_SESSION_MS_MIN},
    store::{StoreOptions, Tls},
};

/// Checks the keys that begin with `store_`.
pub(super) fn validate(config: &Config) -> Result<(), ConfigError> {
    let refuse = |key, reason: String| Err(ConfigError { key, reason });
    let sessions = STORE_SESSION_MS_MIN..=STORE_SESSION_MS_MAX;
    if !sessions.contains(&config.store_session_ms) {
        let reason = format!("give {STORE_SESSION_MS_MIN} to {STORE_SESSION_MS_MAX} milliseconds");
        return refuse("store_session_ms", reason);
    }
    for (key, path) in [
        ("store_path", &config.store_path),
        ("members_path", &config.members_path),
    ] {
        if !path.is_empty() && (!path.starts_with('/') || path.ends_with('/') || path.len() < 2) {
            return refuse(
                key,
                "begin it with a slash, and do not end it with one".to_owned(),
            );
        }
    }
    let paths = [path(config), members_path(config)];
    if paths[0] == paths[1]
        || paths[0].starts_with(&format!("{}/", paths[1]))
        || paths[1].starts_with(&format!("{}/", paths[0]))
    {
        let reason = "`store_path` and `members_path` must not lie within one another".to_owned();
        return refuse("store_path", reason);
    }
    let outside = [
        ("store_endpoints", !config.store_endpoints.is_empty()),
        ("store_user", config.store_user.is_some()),
        ("store_password_file", config.store_password_file.is_some()),
        ("store_ca_file", config.store_ca_file.is_some()),
        (
            "store_certificate_file",
            config.store_certificate_file.is_some(),
        ),
        ("store_key_file", config.store_key_file.is_some()),
    ];
    match config.store {
        StoreKind::Embedded => match outside.into_iter().find(|(_, is_given)| *is_given) {
            Some((key, _)) => refuse(
                key,
                "the embedded store has no servers; remove it, or set `store`".to_owned(),
            ),
            None => Ok(()),
        },
        StoreKind::Etcd => servers(config, 2379),
        StoreKind::Zookeeper => servers(config, 2181),
    }
}

/// Checks the keys of a store with servers, which listen on `port` by default.
fn servers(config: &Config, port: u16) -> Result<(), ConfigError> {
    let refuse = |key, reason: &str| {
        Err(ConfigError {
            key,
            reason: reason.to_owned(),
        })
    };
    let count = config.store_endpoints.len();
    if !(1..=STORE_ENDPOINTS_MAX).contains(&count) {
        let reason = format!(
            "give 1 to {STORE_ENDPOINTS_MAX} servers, like [\"192.0.2.1:{port}\", \"192.0.2.2:{port}\"]"
        );
        return refuse("store_endpoints", &reason);
    }
    if config.store_user.is_some() != config.store_password_file.is_some() {
        return refuse("store_user", "give it together with `store_password_file`");
    }
    if config.store_certificate_file.is_some() != config.store_key_file.is_some() {
        let reason = "give it together with `store_certificate_file`";
        return refuse("store_key_file", reason);
    }
    if config.store_certificate_file.is_some() && config.store_ca_file.is_none() {
        return refuse(
            "store_ca_file",
            "a certificate of one's own is shown to servers whose authority is known; give it, too",
        );
    }
    Ok(())
}

fn path(config: &Config) -> String {
    match config.store_path.as_str() {
        "" => format!("/quorate-state/{}", config.cluster),
        path => path.to_owned(),
    }
}

fn members_path(config: &Config) -> String {
    match config.members_path.as_str() {
        "" => format!("/quorate/{}", config.cluster),
        path => path.to_owned(),
    }
}

impl Config {
    /// What a store with servers is to know of it; reads the files that are named.
    ///
    /// # Errors
    /// Names the key of a file that cannot be used.
    pub fn servers(&self) -> Result<StoreOptions, ConfigError> {
        let user = match (&self.store_user, &self.store_password_file) {
            (Some(user), Some(file)) => {
                let password = text("store_password_file", file)?;
                // Whoever writes a file by hand ends its line.
                let password = password.trim_end_matches(['\r', '\n']).to_owned();
                Some((user.clone(), password))
            }
            _ => None,
        };
        let tls = match &self.store_ca_file {
            Some(authority) => Some(Tls {
                authority: text("store_ca_file", authority)?,
                identity: self.identity()?,
            }),
            None => None,
        };
        Ok(StoreOptions {
            endpoints: self.store_endpoints.clone(),
            path: path(self),
            members_path: members_path(self),
            session: Duration::from_millis(self.store_session_ms),
            name: self.name.clone(),
            user,
            tls,
        })
    }

    fn identity(&self) -> Result<Option<(String, String)>, ConfigError> {
        match (&self.store_certificate_file, &self.store_key_file) {
            (Some(certificate), Some(key)) => Ok(Some((
                text("store_certificate_file", certificate)?,
                text("store_key_file", key)?,
            ))),
            _ => Ok(None),
        }
    }
}

fn text(key: &'static str, path: &Path) -> Result<String, ConfigError> {
    let refuse = |reason: String| ConfigError { key, reason };
    let file = fs::File::open(path)
        .map_err(|error| refuse(format!("open {}: {error}", path.display())))?;
    let mut text = String::new();
    let read = file
        .take(STORE_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| refuse(format!("read {}: {error}", path.display())))?;
    if read as u64 > STORE_FILE_BYTES || text.is_empty() {
        let reason = format!(
            "{} is empty or larger than {STORE_FILE_BYTES} bytes; is it the right file?",
            path.display()
        );
        return Err(refuse(reason));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etcd() -> Config {
        Config {
            store: StoreKind::Etcd,
            store_endpoints: vec!["127.0.0.1:2379".to_owned()],
            ..Config::default()
        }
    }

    #[test]
    fn what_goes_together_is_asked_for_together() {
        let check = |change: fn(&mut Config), key: &str| {
            let mut config = etcd();
            change(&mut config);
            let error = config.validate().expect_err(key).to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        };
        assert_eq!(etcd().validate(), Ok(()));
        check(|config| config.store_user = Some("q".into()), "store_user");
        check(
            |config| config.store_key_file = Some("k".into()),
            "store_key_file",
        );
        check(
            |config| {
                config.store_key_file = Some("k".into());
                config.store_certificate_file = Some("c".into());
            },
            "store_ca_file",
        );
        check(|config| config.store_path = "quorate".into(), "store_path");
        check(|config| config.members_path = "/".into(), "members_path");
        check(
            |config| config.members_path = "/quorate-state/quorate/live".into(),
            "store_path",
        );
    }

    #[test]
    fn paths_hold_the_clusters_name_and_a_password_has_no_line_end() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("password");
        fs::write(&file, "se cret\n").expect("writable");
        let config = Config {
            store_user: Some("quorate".to_owned()),
            store_password_file: Some(file),
            ..etcd()
        };
        let options = config.servers().expect("readable");
        assert_eq!(options.path, "/quorate-state/quorate");
        assert_eq!(options.members_path, "/quorate/quorate");
        let user = ("quorate".to_owned(), "se cret".to_owned());
        assert_eq!(options.user, Some(user));
        let config = Config {
            store_ca_file: Some(folder.path().join("none")),
            ..etcd()
        };
        let error = config.servers().expect_err("not there").to_string();
        assert!(error.contains("`store_ca_file`"), "{error}");
    }
}
