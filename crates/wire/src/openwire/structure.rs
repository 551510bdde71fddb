//! The one place where fields become code: a structure is written as a Rust struct, its fields in the order of the wire,
//! and decoder and encoder follow from it. The same for the sets of structures that may stand at one place, and for the
//! numbers that stand for a choice.

/// Declares the fields of a struct and how they are decoded and encoded. `[since 8]` behind a field's type: on the wire
/// from that version on. `[apart kind: Kind]` declares a field that is not among those on the wire.
macro_rules! fields {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident $([apart $(#[$apart_note:meta])* $apart:ident: $apart_kind:ty])? {
            $($(#[$note:meta])* pub $field:ident: $kind:ty $([since $since:literal])?,)*
        }
    ) => {
        $(#[$attribute])*
        pub struct $name {
            $($(#[$apart_note])* pub $apart: $apart_kind,)?
            $($(#[$note])* pub $field: $kind,)*
        }

        impl $name {
            /// Reads the fields that the version agreed has, in their order.
            fn read_fields(
                $($apart: $apart_kind,)?
                input: &mut $crate::openwire::input::Input<'_>,
            ) -> Result<Self, $crate::openwire::input::DecodeError> {
                Ok(Self {
                    $($apart,)?
                    $($field: $crate::openwire::structure::since!(
                        input, [$($since)?],
                        $crate::openwire::field::Field::decode(input).map_err(|error| {
                            error.within(concat!(stringify!($name), ".", stringify!($field)))
                        })?,
                        Default::default()
                    ),)*
                })
            }

            /// Writes the fields that the version agreed has, in their order.
            fn write_fields(
                &self,
                output: &mut $crate::openwire::output::Output<'_>,
            ) -> Result<(), $crate::openwire::output::EncodeError> {
                $($crate::openwire::structure::since!(
                    output, [$($since)?],
                    $crate::openwire::field::Field::encode(&self.$field, output)?,
                    ()
                );)*
                Ok(())
            }
        }
    };
}

/// Chooses by the version of an input or output: whether a field marked like this is on the wire.
macro_rules! since {
    ($either:ident, [], $there:expr, $not_there:expr) => {
        $there
    };
    ($either:ident, [$since:literal], $there:expr, $not_there:expr) => {
        if $either.version.number() >= $since {
            $there
        } else {
            $not_there
        }
    };
}

/// Declares a structure with its number on the wire.
macro_rules! structure {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident = $data_type:literal { $($fields:tt)* }
    ) => {
        $crate::openwire::structure::fields! {
            $(#[$attribute])*
            pub struct $name { $($fields)* }
        }

        impl $name {
            /// The number of this structure on the wire.
            pub const DATA_TYPE: u8 = $data_type;
        }

        impl $crate::openwire::field::Typed for $name {
            fn admits(data_type: u8) -> bool {
                data_type == Self::DATA_TYPE
            }

            fn data_type(&self) -> u8 {
                Self::DATA_TYPE
            }

            fn decode_fields(
                _data_type: u8,
                input: &mut $crate::openwire::input::Input<'_>,
            ) -> Result<Self, $crate::openwire::input::DecodeError> {
                Self::read_fields(input)
            }

            fn encode_fields(
                &self,
                output: &mut $crate::openwire::output::Output<'_>,
            ) -> Result<(), $crate::openwire::output::EncodeError> {
                self.write_fields(output)
            }
        }
    };
}

/// Declares the structures that may stand at one place, as an enum.
macro_rules! choice {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident { $($(#[$note:meta])* $variant:ident($inner:ty),)* }
    ) => {
        $(#[$attribute])*
        pub enum $name { $($(#[$note])* $variant($inner),)* }

        impl $crate::openwire::field::Typed for $name {
            fn admits(data_type: u8) -> bool {
                $(<$inner>::admits(data_type))||*
            }

            fn data_type(&self) -> u8 {
                match self {
                    $(Self::$variant(inner) => inner.data_type(),)*
                }
            }

            fn decode_fields(
                data_type: u8,
                input: &mut $crate::openwire::input::Input<'_>,
            ) -> Result<Self, $crate::openwire::input::DecodeError> {
                $(if <$inner>::admits(data_type) {
                    return <$inner>::decode_fields(data_type, input).map(Self::$variant);
                })*
                Err($crate::openwire::input::Fault::UnexpectedType(data_type).into())
            }

            fn encode_fields(
                &self,
                output: &mut $crate::openwire::output::Output<'_>,
            ) -> Result<(), $crate::openwire::output::EncodeError> {
                match self {
                    $(Self::$variant(inner) => inner.encode_fields(output),)*
                }
            }
        }

        $(impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                Self::$variant(inner)
            }
        })*
    };
}

/// Declares what the numbers of a field of one byte mean.
macro_rules! codes {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident { $($(#[$note:meta])* $variant:ident = $code:literal,)* }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name { $($(#[$note])* $variant,)* }

        impl $name {
            /// Its number on the wire.
            #[must_use]
            pub const fn code(self) -> i8 {
                match self {
                    $(Self::$variant => $code,)*
                }
            }
        }

        impl $crate::openwire::field::Field for $name {
            fn decode(
                input: &mut $crate::openwire::input::Input<'_>,
            ) -> Result<Self, $crate::openwire::input::DecodeError> {
                match input.reader.i8()? {
                    $($code => Ok(Self::$variant),)*
                    other => Err($crate::openwire::input::Fault::UnknownCode(other).into()),
                }
            }

            fn encode(
                &self,
                output: &mut $crate::openwire::output::Output<'_>,
            ) -> Result<(), $crate::openwire::output::EncodeError> {
                self.code().encode(output)
            }
        }
    };
}

pub(crate) use {choice, codes, fields, since, structure};
