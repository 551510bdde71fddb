//! Patterns of LIKE: `_` stands for one character, `%` for any number of them, an escape character takes the meaning from
//! either.

use super::evaluate::Budget;

/// A pattern, taken apart once.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern {
    text: Box<str>,
    escape: Option<char>,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    One(char),
    AnyOne,
    /// Any number; never twice in a row.
    Any,
}

impl Pattern {
    /// The pattern, or why there is none.
    pub(super) fn new(text: &str, escape: Option<char>) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let part = match c {
                _ if Some(c) == escape => match chars.next() {
                    Some(c) if c == '_' || c == '%' || Some(c) == escape => Part::One(c),
                    Some(_) | None => {
                        return Err("the escape character stands before '_', '%' or itself only");
                    }
                },
                '_' => Part::AnyOne,
                '%' => Part::Any,
                _ => Part::One(c),
            };
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
        }
        Ok(Self {
            text: text.into(),
            escape,
            parts,
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn escape(&self) -> Option<char> {
        self.escape
    }

    /// Whether a text fits; none when that took more steps than are left.
    pub(super) fn fits(&self, text: &str, budget: &mut Budget) -> Option<bool> {
        let mut rest = text.chars();
        let mut at = 0;
        // Where the last `%` was, and what it has left over so far. Going back to an earlier one never helps.
        let mut last_any = None;
        loop {
            budget.spend(1)?;
            match self.parts.get(at) {
                Some(Part::Any) => {
                    at += 1;
                    last_any = Some((at, rest.clone()));
                    continue;
                }
                Some(part) => {
                    let mut ahead = rest.clone();
                    if let Some(c) = ahead.next()
                        && (*part == Part::AnyOne || *part == Part::One(c))
                    {
                        rest = ahead;
                        at += 1;
                        continue;
                    }
                }
                None if rest.as_str().is_empty() => return Some(true),
                None => {}
            }
            let Some((behind, left)) = &mut last_any else {
                return Some(false);
            };
            if left.next().is_none() {
                return Some(false);
            }
            at = *behind;
            rest = left.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, escape: Option<char>, fitting: &[&str], other: &[&str]) {
        let pattern = Pattern::new(pattern, escape).unwrap();
        let fits = |text| pattern.fits(text, &mut Budget::new()).unwrap();
        for text in fitting {
            assert!(fits(text), "{text:?} should fit {pattern:?}");
        }
        for text in other {
            assert!(!fits(text), "{text:?} should not fit {pattern:?}");
        }
    }

    #[test]
    fn wildcards() {
        check(
            "12%3",
            None,
            &["123", "12993", "12333"],
            &["1234", "12", "13"],
        );
        check("l_se", None, &["lose", "l\u{e4}se"], &["loose", "lse"]);
        check("\\_%", Some('\\'), &["_foo", "_"], &["bar", ""]);
        check("%", None, &["", "anything"], &[]);
        check("", None, &[""], &["x"]);
        check("%a%b", None, &["ab", "xaxxb", "abab"], &["aba", "b"]);
        check("%%x__%", None, &["xab", "--xab--"], &["xa"]);
        check("a.*", None, &["a.*"], &["ab", "a."]);
        check("100!%!!", Some('!'), &["100%!"], &["100x!"]);
    }

    #[test]
    fn an_escape_before_something_else_is_refused() {
        assert!(Pattern::new("a!b", Some('!')).is_err());
        assert!(Pattern::new("a!", Some('!')).is_err());
    }

    #[test]
    fn a_costly_match_is_given_up() {
        let pattern = Pattern::new(&"%a".repeat(2_000), None).unwrap();
        let text = "a".repeat(1_999) + &"b".repeat(1 << 20);
        assert_eq!(pattern.fits(&text, &mut Budget::new()), None);
    }
}
