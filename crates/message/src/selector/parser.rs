//! Tokens as a tree. From loosest to tightest: OR, AND, NOT, comparisons and predicates, sums, products, signs.
//!
//! What can be told from the text is refused here: a text used as a number, a number as a condition. What a property
//! holds is seen in each message.

use super::SelectorError;
use super::expression::{Comparison, Expression, Kind, NameIndex, Operator};
use super::lexer::{Keyword, Placed, Token, found, tokens};
use super::like::Pattern;
use crate::limits::{SELECTOR_DEPTH_MAX, SELECTOR_NAMES_MAX};

/// Parses a whole text: the names that it asks for, and the tree.
pub(super) fn parse(text: &str) -> Result<(Vec<Box<str>>, Expression), SelectorError> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
        names: Vec::new(),
    };
    let expression = parser.condition()?;
    parser.take_if(&Token::End, "AND, OR or the end of the selector")?;
    Ok((parser.names, expression))
}

struct Parser {
    /// Never empty; the last is the end.
    tokens: Vec<Placed>,
    at: usize,
    /// Parentheses, NOTs and signs around what is read.
    depth: usize,
    names: Vec<Box<str>>,
}

type Parse = Result<Expression, SelectorError>;

impl Parser {
    /// An expression that is true, false or unknown.
    fn condition(&mut self) -> Parse {
        let start = self.at;
        let expression = self.any_of()?;
        self.check(start, &expression, Kind::Boolean)?;
        Ok(expression)
    }

    fn any_of(&mut self) -> Parse {
        let is_or = |parser: &mut Self| parser.take_keyword(Keyword::Or);
        self.joined(Self::all_of, is_or, Expression::Or)
    }

    fn all_of(&mut self) -> Parse {
        let is_and = |parser: &mut Self| parser.take_keyword(Keyword::And);
        self.joined(Self::not, is_and, Expression::And)
    }

    /// One part, or several between the same word, each then a condition.
    fn joined(
        &mut self,
        part: fn(&mut Self) -> Parse,
        goes_on: fn(&mut Self) -> bool,
        join: fn(Vec<Expression>) -> Expression,
    ) -> Parse {
        let mut start = self.at;
        let first = part(self)?;
        if !goes_on(self) {
            return Ok(first);
        }
        self.check(start, &first, Kind::Boolean)?;
        let mut parts = vec![first];
        loop {
            start = self.at;
            let next = part(self)?;
            self.check(start, &next, Kind::Boolean)?;
            parts.push(next);
            if !goes_on(self) {
                return Ok(join(parts));
            }
        }
    }

    fn not(&mut self) -> Parse {
        if !self.take_keyword(Keyword::Not) {
            return self.predicate();
        }
        let start = self.at;
        let inner = self.nested(Self::not)?;
        self.check(start, &inner, Kind::Boolean)?;
        Ok(Expression::Not(Box::new(inner)))
    }

    fn predicate(&mut self) -> Parse {
        let start = self.at;
        let left = self.sum()?;
        if let Token::Comparison(comparison) = self.peek() {
            let comparison = *comparison;
            self.at += 1;
            return self.compare(start, left, comparison);
        }
        if self.take_keyword(Keyword::Is) {
            let name = self.name_of(start, &left)?;
            let negated = self.take_keyword(Keyword::Not);
            self.take_if(&Token::Keyword(Keyword::Null), "NULL or NOT NULL")?;
            return Ok(Expression::IsNull { name, negated });
        }
        let negated = self.take_keyword(Keyword::Not);
        if self.take_keyword(Keyword::Between) {
            return self.between(start, left, negated);
        }
        if self.take_keyword(Keyword::In) {
            let name = self.name_of(start, &left)?;
            let list = self.list()?;
            return Ok(Expression::In {
                name,
                list,
                negated,
            });
        }
        if self.take_keyword(Keyword::Like) {
            let name = self.name_of(start, &left)?;
            let pattern = self.pattern()?;
            return Ok(Expression::Like {
                name,
                pattern,
                negated,
            });
        }
        if negated {
            return Err(self.unexpected("BETWEEN, IN or LIKE"));
        }
        Ok(left)
    }

    fn compare(&mut self, start: usize, left: Expression, comparison: Comparison) -> Parse {
        let has_order = match comparison {
            Comparison::Equal | Comparison::NotEqual => false,
            Comparison::Less
            | Comparison::LessOrEqual
            | Comparison::Greater
            | Comparison::GreaterOrEqual => true,
        };
        if has_order {
            self.check(start, &left, Kind::Number)?;
        }
        let start = self.at;
        let right = self.sum()?;
        if has_order {
            self.check(start, &right, Kind::Number)?;
        }
        Ok(Expression::Compare(
            Box::new(left),
            comparison,
            Box::new(right),
        ))
    }

    fn between(&mut self, start: usize, value: Expression, negated: bool) -> Parse {
        self.check(start, &value, Kind::Number)?;
        let low = self.number()?;
        self.take_if(&Token::Keyword(Keyword::And), "AND and the upper bound")?;
        let high = self.number()?;
        Ok(Expression::Between {
            value: Box::new(value),
            low: Box::new(low),
            high: Box::new(high),
            negated,
        })
    }

    fn number(&mut self) -> Parse {
        let start = self.at;
        let expression = self.sum()?;
        self.check(start, &expression, Kind::Number)?;
        Ok(expression)
    }

    fn list(&mut self) -> Result<Vec<Box<str>>, SelectorError> {
        self.take_if(&Token::Open, "a list of texts in parentheses")?;
        let mut list = vec![self.text("a text in quotes")?];
        while *self.peek() == Token::Comma {
            self.at += 1;
            list.push(self.text("a text in quotes")?);
        }
        self.take_if(&Token::Close, "',' or ')'")?;
        list.sort_unstable();
        list.dedup();
        Ok(list)
    }

    fn pattern(&mut self) -> Result<Pattern, SelectorError> {
        let column = self.column();
        let text = self.text("a pattern in quotes")?;
        let mut escape = None;
        if self.take_keyword(Keyword::Escape) {
            let start = self.at;
            let given = self.text("a character in quotes")?;
            let mut chars = given.chars();
            escape = chars.next().filter(|_| chars.next().is_none());
            if escape.is_none() {
                self.at = start;
                return Err(self.unexpected("exactly one character in quotes"));
            }
        }
        Pattern::new(&text, escape).map_err(|reason| SelectorError::Refused { column, reason })
    }

    fn sum(&mut self) -> Parse {
        let operators = |operator| match operator {
            Operator::Add | Operator::Subtract => true,
            Operator::Multiply | Operator::Divide | Operator::Remainder => false,
        };
        self.arithmetic(Self::product, operators)
    }

    fn product(&mut self) -> Parse {
        let operators = |operator| match operator {
            Operator::Multiply | Operator::Divide | Operator::Remainder => true,
            Operator::Add | Operator::Subtract => false,
        };
        self.arithmetic(Self::sign, operators)
    }

    fn arithmetic(
        &mut self,
        operand: fn(&mut Self) -> Parse,
        is_operator: fn(Operator) -> bool,
    ) -> Parse {
        let mut start = self.at;
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Token::Operator(operator) = *self.peek()
            && is_operator(operator)
        {
            if rest.is_empty() {
                self.check(start, &first, Kind::Number)?;
            }
            self.at += 1;
            start = self.at;
            let next = operand(self)?;
            self.check(start, &next, Kind::Number)?;
            rest.push((operator, next));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Ok(Expression::Arithmetic(Box::new(first), rest))
    }

    fn sign(&mut self) -> Parse {
        let Token::Operator(sign @ (Operator::Add | Operator::Subtract)) = *self.peek() else {
            return self.primary();
        };
        let is_minus = sign == Operator::Subtract;
        self.at += 1;
        // The least integer has no positive counterpart.
        if is_minus && *self.peek() == Token::Exact(1 << 63) {
            self.at += 1;
            return Ok(Expression::Long(i64::MIN));
        }
        let start = self.at;
        let inner = self.nested(Self::sign)?;
        self.check(start, &inner, Kind::Number)?;
        Ok(match (is_minus, inner) {
            (false, inner) => inner,
            (true, Expression::Long(value)) if value != i64::MIN => Expression::Long(-value),
            (true, Expression::Double(value)) => Expression::Double(-value),
            (true, inner) => Expression::Negate(Box::new(inner)),
        })
    }

    fn primary(&mut self) -> Parse {
        const EXPECTED: &str = "a property, a literal or '('";
        let expression = match self.peek().clone() {
            Token::Name(name) => return self.name(name),
            Token::Text(text) => Expression::Text(text),
            Token::Exact(value) => match i64::try_from(value) {
                Ok(value) => Expression::Long(value),
                Err(_) => return Err(self.unexpected("an integer of at most 64 bits")),
            },
            Token::Approximate(value) => Expression::Double(value),
            Token::Keyword(Keyword::True) => Expression::Boolean(true),
            Token::Keyword(Keyword::False) => Expression::Boolean(false),
            Token::Open => {
                self.at += 1;
                let inner = self.nested(Self::any_of)?;
                self.take_if(&Token::Close, "')'")?;
                return Ok(inner);
            }
            Token::Keyword(Keyword::Null) => {
                return Err(self.refused("nothing equals NULL; write IS NULL or IS NOT NULL"));
            }
            Token::Keyword(
                Keyword::Not
                | Keyword::And
                | Keyword::Or
                | Keyword::Between
                | Keyword::Like
                | Keyword::In
                | Keyword::Is
                | Keyword::Escape,
            )
            | Token::Operator(_)
            | Token::Comparison(_)
            | Token::Close
            | Token::Comma
            | Token::End => return Err(self.unexpected(EXPECTED)),
        };
        self.at += 1;
        Ok(expression)
    }

    fn name(&mut self, name: Box<str>) -> Parse {
        match &*name {
            // These change while a message waits, or are the same for all of a queue.
            "JMSRedelivered" | "JMSXDeliveryCount" | "JMSDestination" => {
                return Err(self.refused(
                    "JMSRedelivered, JMSXDeliveryCount and JMSDestination cannot be selected on",
                ));
            }
            _ => {}
        }
        let known = self.names.iter().position(|other| *other == name);
        let place = known.unwrap_or(self.names.len());
        if known.is_none() {
            if place == SELECTOR_NAMES_MAX {
                return Err(self.refused("too many different names; at most 64 are allowed"));
            }
            self.names.push(name);
        }
        self.at += 1;
        let index = NameIndex::try_from(place).expect("at most 64 names");
        Ok(Expression::Name(index))
    }

    /// Reads what is one level deeper.
    fn nested(&mut self, read: fn(&mut Self) -> Parse) -> Parse {
        if self.depth == SELECTOR_DEPTH_MAX {
            return Err(self.refused("nested too deeply; at most 64 levels are allowed"));
        }
        self.depth += 1;
        let expression = read(self);
        self.depth -= 1;
        expression
    }

    /// The property that an expression is; nothing else can stand before IS, IN and LIKE.
    fn name_of(&self, start: usize, expression: &Expression) -> Result<NameIndex, SelectorError> {
        if let Expression::Name(name) = expression {
            return Ok(*name);
        }
        Err(self.unexpected_at(start, "a property before IS, IN or LIKE"))
    }

    /// Refuses an expression that cannot be what is wanted.
    fn check(
        &self,
        start: usize,
        expression: &Expression,
        wanted: Kind,
    ) -> Result<(), SelectorError> {
        let kind = expression.kind();
        if kind == Kind::Any || kind == wanted {
            return Ok(());
        }
        let expected = match wanted {
            Kind::Number => "a number or a property",
            Kind::Text => "a text or a property",
            Kind::Boolean | Kind::Any => "a condition (for instance a comparison)",
        };
        Err(self.unexpected_at(start, expected))
    }

    fn peek(&self) -> &Token {
        &self.placed(self.at).token
    }

    fn column(&self) -> usize {
        self.placed(self.at).column
    }

    fn placed(&self, at: usize) -> &Placed {
        let last = self.tokens.len() - 1;
        &self.tokens[at.min(last)]
    }

    fn take_keyword(&mut self, keyword: Keyword) -> bool {
        let is_there = *self.peek() == Token::Keyword(keyword);
        self.at += usize::from(is_there);
        is_there
    }

    fn take_if(&mut self, wanted: &Token, expected: &'static str) -> Result<(), SelectorError> {
        if self.peek() != wanted {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn text(&mut self, expected: &'static str) -> Result<Box<str>, SelectorError> {
        let Token::Text(text) = self.peek().clone() else {
            return Err(self.unexpected(expected));
        };
        self.at += 1;
        Ok(text)
    }

    fn unexpected(&self, expected: &'static str) -> SelectorError {
        self.unexpected_at(self.at, expected)
    }

    fn unexpected_at(&self, at: usize, expected: &'static str) -> SelectorError {
        let placed = self.placed(at);
        SelectorError::Syntax {
            column: placed.column,
            expected,
            found: shown(&placed.token),
        }
    }

    fn refused(&self, reason: &'static str) -> SelectorError {
        SelectorError::Refused {
            column: self.column(),
            reason,
        }
    }
}

/// A token for an error.
fn shown(token: &Token) -> String {
    match token {
        Token::Name(name) => found(name),
        Token::Keyword(keyword) => format!("{keyword:?}").to_uppercase(),
        Token::Text(text) => format!("the text {}", found(text)),
        Token::Exact(value) => format!("the number {value}"),
        Token::Approximate(value) => format!("the number {value:?}"),
        Token::Operator(operator) => format!("{:?}", operator.symbol()),
        Token::Comparison(comparison) => format!("{:?}", comparison.symbol()),
        Token::Open => "\"(\"".to_owned(),
        Token::Close => "\")\"".to_owned(),
        Token::Comma => "\",\"".to_owned(),
        Token::End => "the end".to_owned(),
    }
}
