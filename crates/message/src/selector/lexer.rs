//! A selector's text as tokens, each with its column.

use super::SelectorError;
use super::expression::{Comparison, Operator};
use crate::limits::SELECTOR_BYTES_MAX;

/// A word, sign or literal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(Box<str>),
    Keyword(Keyword),
    Text(Box<str>),
    /// Without its sign, so that the least integer can be written.
    Exact(u64),
    Approximate(f64),
    Operator(Operator),
    Comparison(Comparison),
    Open,
    Close,
    Comma,
    End,
}

/// Words that are no names, in any case of letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Not,
    And,
    Or,
    Between,
    Like,
    In,
    Is,
    Escape,
    Null,
    True,
    False,
}

/// A token and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub(super) token: Token,
    /// In characters, from 1.
    pub(super) column: usize,
}

const KEYWORDS: [(&str, Keyword); 11] = [
    ("NOT", Keyword::Not),
    ("AND", Keyword::And),
    ("OR", Keyword::Or),
    ("BETWEEN", Keyword::Between),
    ("LIKE", Keyword::Like),
    ("IN", Keyword::In),
    ("IS", Keyword::Is),
    ("ESCAPE", Keyword::Escape),
    ("NULL", Keyword::Null),
    ("TRUE", Keyword::True),
    ("FALSE", Keyword::False),
];

/// The text as tokens, the last of them [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, SelectorError> {
    if text.len() > SELECTOR_BYTES_MAX {
        return Err(SelectorError::TooLong { bytes: text.len() });
    }
    let mut lexer = Lexer {
        rest: text,
        column: 1,
    };
    let mut tokens = Vec::new();
    loop {
        lexer.take_while(char::is_whitespace);
        let column = lexer.column;
        let token = lexer.next_token()?;
        let is_end = token == Token::End;
        tokens.push(Placed { token, column });
        if is_end {
            return Ok(tokens);
        }
    }
}

/// Whether a name can be written without quotes.
pub(super) fn is_plain_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(begins_name) && chars.all(continues_name) && keyword(name).is_none()
}

fn begins_name(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

fn continues_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn keyword(word: &str) -> Option<Keyword> {
    let mut keywords = KEYWORDS.iter();
    keywords
        .find(|(spelling, _)| spelling.eq_ignore_ascii_case(word))
        .map(|(_, keyword)| *keyword)
}

struct Lexer<'a> {
    rest: &'a str,
    column: usize,
}

impl<'a> Lexer<'a> {
    fn next_token(&mut self) -> Result<Token, SelectorError> {
        let Some(first) = self.rest.chars().next() else {
            return Ok(Token::End);
        };
        if begins_name(first) {
            let word = self.take_while(continues_name);
            return Ok(keyword(word).map_or_else(|| Token::Name(word.into()), Token::Keyword));
        }
        if self.begins_number() {
            return self.number();
        }
        if let Some(token) = self.sign() {
            return Ok(token);
        }
        match first {
            '\'' => Ok(Token::Text(self.quoted('\'')?)),
            '"' => self.quoted_name(),
            _ => Err(self.unexpected("a property, a literal or an operator")),
        }
    }

    fn sign(&mut self) -> Option<Token> {
        // Longer ones first.
        const SIGNS: [(&str, Token); 14] = [
            ("<>", Token::Comparison(Comparison::NotEqual)),
            ("<=", Token::Comparison(Comparison::LessOrEqual)),
            (">=", Token::Comparison(Comparison::GreaterOrEqual)),
            ("<", Token::Comparison(Comparison::Less)),
            (">", Token::Comparison(Comparison::Greater)),
            ("=", Token::Comparison(Comparison::Equal)),
            ("+", Token::Operator(Operator::Add)),
            ("-", Token::Operator(Operator::Subtract)),
            ("*", Token::Operator(Operator::Multiply)),
            ("/", Token::Operator(Operator::Divide)),
            ("%", Token::Operator(Operator::Remainder)),
            ("(", Token::Open),
            (")", Token::Close),
            (",", Token::Comma),
        ];
        let found = SIGNS
            .into_iter()
            .find(|(sign, _)| self.rest.starts_with(sign));
        let (sign, token) = found?;
        self.advance(sign.len());
        Some(token)
    }

    fn begins_number(&self) -> bool {
        let mut chars = self.rest.chars();
        let first = chars.next();
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        digit(first) || (first == Some('.') && digit(chars.next()))
    }

    /// A number and what may follow it: `L` behind exact ones, `F` or `D` behind approximate ones, as in Java.
    fn number(&mut self) -> Result<Token, SelectorError> {
        let start = Self {
            rest: self.rest,
            column: self.column,
        };
        if self.rest.starts_with("0x") || self.rest.starts_with("0X") {
            self.advance(2);
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            return self.exact(&start, digits, 16);
        }
        let whole = self.take_while(|c| c.is_ascii_digit());
        let mut is_approximate = self.rest.starts_with('.');
        if is_approximate {
            self.advance(1);
            self.take_while(|c| c.is_ascii_digit());
        }
        is_approximate |= self.exponent();
        let length = start.rest.len() - self.rest.len();
        if is_approximate || self.rest.starts_with(['f', 'F', 'd', 'D']) {
            return self.approximate(&start, length);
        }
        if whole.len() > 1 && whole.starts_with('0') {
            return self.exact(&start, &whole[1..], 8);
        }
        self.exact(&start, whole, 10)
    }

    /// Takes an exponent, if there is one.
    fn exponent(&mut self) -> bool {
        let mark = self.rest.strip_prefix(['e', 'E']);
        let signed = mark.map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
        let has_digits = signed.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if let Some(signed) = signed.filter(|_| has_digits) {
            self.advance(self.rest.len() - signed.len());
            self.take_while(|c| c.is_ascii_digit());
        }
        has_digits
    }

    fn exact(&mut self, start: &Self, digits: &str, radix: u32) -> Result<Token, SelectorError> {
        const GREATEST: u64 = 1 << 63;
        if self.rest.starts_with(['l', 'L']) {
            self.advance(1);
        }
        self.end_number(start)?;
        let is_digit = |c: char| c.is_digit(radix);
        if digits.is_empty() || !digits.chars().all(is_digit) {
            return Err(start.unexpected(if radix == 8 {
                "digits 0 to 7 behind a leading 0, which makes a number octal"
            } else {
                "hexadecimal digits behind 0x"
            }));
        }
        let value = u64::from_str_radix(digits, radix).ok();
        let value = value.filter(|value| *value <= GREATEST);
        value
            .map(Token::Exact)
            .ok_or_else(|| start.unexpected("an integer of at most 64 bits"))
    }

    fn approximate(&mut self, start: &Self, length: usize) -> Result<Token, SelectorError> {
        let text = &start.rest[..length];
        if self.rest.starts_with(['f', 'F', 'd', 'D']) {
            self.advance(1);
        }
        self.end_number(start)?;
        let value = text.parse().ok().filter(|value: &f64| value.is_finite());
        value
            .map(Token::Approximate)
            .ok_or_else(|| start.unexpected("a number within the range of a double"))
    }

    /// Refuses a word that touches a number.
    fn end_number(&self, start: &Self) -> Result<(), SelectorError> {
        if self.rest.starts_with(continues_name) {
            return Err(start.unexpected("a number"));
        }
        Ok(())
    }

    /// What is between quotes; two of them stand for one.
    fn quoted(&mut self, quote: char) -> Result<Box<str>, SelectorError> {
        let opening = Self {
            rest: self.rest,
            column: self.column,
        };
        let mut text = String::new();
        loop {
            self.advance(1);
            text.push_str(self.take_while(|c| c != quote));
            if self.rest.is_empty() {
                return Err(opening.unexpected("a closing quote"));
            }
            self.advance(1);
            if !self.rest.starts_with(quote) {
                return Ok(text.into());
            }
            text.push(quote);
        }
    }

    fn quoted_name(&mut self) -> Result<Token, SelectorError> {
        let opening = Self {
            rest: self.rest,
            column: self.column,
        };
        let name = self.quoted('"')?;
        if name.is_empty() {
            return Err(opening.unexpected("a name between the quotes"));
        }
        Ok(Token::Name(name))
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let taken = &self.rest[..end];
        self.advance(end);
        taken
    }

    /// Goes on by so many bytes, which end a character.
    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at(bytes);
        self.column += passed.chars().count();
        self.rest = rest;
    }

    fn unexpected(&self, expected: &'static str) -> SelectorError {
        // The word that is there, or the character.
        let mut shown = self.rest.find(|c| !continues_name(c) && c != '.');
        if shown == Some(0) {
            shown = self.rest.chars().next().map(char::len_utf8);
        }
        SelectorError::Syntax {
            column: self.column,
            expected,
            found: found(&self.rest[..shown.unwrap_or(self.rest.len())]),
        }
    }
}

/// Text for an error, not longer than is of use.
pub(super) fn found(text: &str) -> String {
    const SHOWN_MAX: usize = 40;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
        None if text.is_empty() => "the end".to_owned(),
        None => format!("{text:?}"),
    }
}
