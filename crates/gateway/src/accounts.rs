//! Who may connect by a protocol that carries a user's name and password.
//!
//! Users come from a file as ActiveMQ's `users.properties`: a line `name=password` each, `#` begins a comment. Without a
//! file everybody is let in.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// See the head of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    /// None: everybody is let in under any name.
    users: Option<BTreeMap<String, String>>,
    lets_anonymous_in: bool,
}

/// Why the users are not known.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The file cannot be read.
    #[error("read users from {}: {source}; see the key `users_file`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not understood.
    #[error("users in {}: line {line} is not `name=password`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which, from 1.
        line: usize,
    },
}

impl Accounts {
    /// Reads the users.
    pub(crate) fn read(
        file: Option<&Path>,
        lets_anonymous_in: bool,
    ) -> Result<Self, AccountsError> {
        let Some(path) = file else {
            return Ok(Self::default());
        };
        let text = fs::read_to_string(path).map_err(|source| AccountsError::Read {
            path: path.to_owned(),
            source,
        })?;
        let users = users(&text).map_err(|line| AccountsError::Line {
            path: path.to_owned(),
            line,
        })?;
        Ok(Self {
            users: Some(users),
            lets_anonymous_in,
        })
    }

    /// Whether a client may connect. One that gives neither name nor password is anonymous.
    pub(crate) fn admit(&self, user: Option<&str>, password: Option<&str>) -> bool {
        let Some(users) = &self.users else {
            return true;
        };
        let (user, password) = (user.unwrap_or_default(), password.unwrap_or_default());
        match (user, password) {
            ("", "") => self.lets_anonymous_in,
            _ => users
                .get(user)
                .is_some_and(|expected| is_same(expected.as_bytes(), password.as_bytes())),
        }
    }
}

/// The users of a file, or the number of the line that is wrong.
fn users(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| match line.split_once('=') {
            Some((name, password)) if !name.trim().is_empty() => {
                Ok((name.trim().to_owned(), password.trim().to_owned()))
            }
            Some(_) | None => Err(number),
        })
        .collect()
}

/// Compares in a time that does not tell where two passwords of one length differ.
fn is_same(expected: &[u8], given: &[u8]) -> bool {
    let differing = expected.iter().zip(given).map(|(a, b)| a ^ b);
    expected.len() == given.len() && differing.fold(0, |sum, bits| sum | bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(lets_anonymous_in: bool) -> Accounts {
        Accounts {
            users: Some(users("# who\n\nsystem = manager\nguest=pass=word\n").unwrap()),
            lets_anonymous_in,
        }
    }

    #[test]
    fn who_knows_the_password_is_let_in() {
        let accounts = accounts(false);
        assert!(accounts.admit(Some("system"), Some("manager")));
        assert!(accounts.admit(Some("guest"), Some("pass=word")));
        for (user, password) in [
            (Some("system"), Some("manage")),
            (Some("system"), Some("managers")),
            (Some("system"), Some("Manager")),
            (Some("system"), None),
            (Some("nobody"), Some("manager")),
            (None, Some("manager")),
            (None, None),
        ] {
            assert!(!accounts.admit(user, password), "{user:?} {password:?}");
        }
    }

    #[test]
    fn who_gives_no_name_is_let_in_where_that_is_allowed() {
        for nothing in [None, Some("")] {
            assert!(accounts(true).admit(nothing, nothing));
            assert!(!accounts(false).admit(nothing, nothing));
        }
        assert!(!accounts(true).admit(Some("nobody"), None));
    }

    #[test]
    fn without_a_file_everybody_is_let_in() {
        let accounts = Accounts::read(None, false).unwrap();
        assert!(accounts.admit(Some("anybody"), Some("anything")));
        assert!(accounts.admit(None, None));
    }

    #[test]
    fn a_file_that_is_missing_or_wrong_is_named() {
        let missing = Accounts::read(Some(Path::new("/nowhere/users")), false).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/users"), "{missing}");
        assert_eq!(users("a=b\nsystem\n"), Err(2));
        assert_eq!(users("=b\n"), Err(1));
    }
}
