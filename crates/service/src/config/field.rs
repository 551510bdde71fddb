//! Keys from several places, as one serde map that remembers where each came from.
//!
//! A value from the environment or a flag is text, and becomes what the struct asks for: a number, a boolean, a list
//! by commas. A value from the file has its type already.

use std::{collections::BTreeMap, collections::btree_map, str::FromStr};

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, Error as _, IntoDeserializer, MapAccess, Unexpected, Visitor,
        value::{Error, SeqDeserializer, StringDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{ConfigError, Origin};

/// A value as it was given.
pub(super) enum Field {
    /// From a file, with a type.
    Toml(toml::Value),
    /// From the environment or a flag.
    Text(String),
}

/// The keys of all places, the winner of each.
pub(super) struct Fields {
    fields: btree_map::IntoIter<String, (Origin, Field)>,
    current: Option<(String, Origin, Option<Field>)>,
}

impl Fields {
    pub(super) fn new(fields: BTreeMap<String, (Origin, Field)>) -> Self {
        Self {
            fields: fields.into_iter(),
            current: None,
        }
    }

    /// Turns the error that ended reading into one that names the place and key at which it ended.
    pub(super) fn explain(&self, error: &Error) -> ConfigError {
        match &self.current {
            None => ConfigError::Whole(error.to_string()),
            Some((key, origin, None)) => ConfigError::Key {
                origin: origin.clone(),
                message: format!("key `{key}`: {error}"),
            },
            // The name itself was refused: the message of serde names it, and those that are known.
            Some((_, origin, Some(_))) => ConfigError::Key {
                origin: origin.clone(),
                message: format!("{error}; remove it or correct its name"),
            },
        }
    }
}

impl<'de> Deserializer<'de> for &mut Fields {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for &mut Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, (origin, field))) = self.fields.next() else {
            self.current = None;
            return Ok(None);
        };
        self.current = Some((key.clone(), origin, Some(field)));
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let field = self
            .current
            .as_mut()
            .and_then(|(_, _, field)| field.take())
            .ok_or_else(|| Error::custom("a value was asked for before its key"))?;
        match field {
            Field::Toml(value) => seed.deserialize(value).map_err(Error::custom),
            Field::Text(text) => seed.deserialize(Text(text)),
        }
    }
}

/// Text that becomes what is asked for.
struct Text(String);

impl Text {
    fn parse<'de, T: FromStr, V: Visitor<'de>>(&self, visitor: &V) -> Result<T, Error> {
        self.0
            .trim()
            .parse()
            .map_err(|_| Error::invalid_value(Unexpected::Str(&self.0), visitor))
    }
}

impl IntoDeserializer<'_, Error> for Text {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let value: $type = self.parse(&visitor)?;
            visitor.$visit(value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Text {
    type Error = Error;

    parsed! {
        deserialize_bool visit_bool bool;
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.0)
    }

    /// A variable that is set to nothing is an absent value.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_empty() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let parts = self
            .0
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| Self(part.to_owned()));
        visitor.visit_seq(SeqDeserializer::new(parts))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text: StringDeserializer<Error> = self.0.into_deserializer();
        Deserializer::deserialize_enum(text, name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}
