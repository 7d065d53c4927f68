//! The addresses on which a process listens.

use std::{
    fmt,
    net::{AddrParseError, Ipv4Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

/// The word for [`WebListen::Auto`].
const AUTO: &str = "auto";

/// `learner.web_listen`: the address of the live page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WebListen {
    /// `"auto"`: on loopback in a learner with local actors, off in one without.
    #[default]
    Auto,
    /// `""`: no page.
    Off,
    /// This address and no other.
    At(SocketAddr),
}

impl WebListen {
    /// The address that `"auto"` prefers.
    pub const PREFERRED: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
}

impl fmt::Display for WebListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Off => Ok(()),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl From<WebListen> for String {
    fn from(listen: WebListen) -> Self {
        listen.to_string()
    }
}

impl TryFrom<String> for WebListen {
    type Error = AddrParseError;

    fn try_from(text: String) -> Result<Self, AddrParseError> {
        match text.as_str() {
            AUTO => Ok(Self::Auto),
            "" => Ok(Self::Off),
            address => address.parse().map(Self::At),
        }
    }
}

/// Returns the address of a port on the loopback interface.
pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Reads and writes an optional address. `""` means none, because TOML has no null.
pub(super) mod or_off {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(
        address: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str(""),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_page_is_auto_off_or_an_ip_and_port() {
        for (text, listen) in [
            ("auto", WebListen::Auto),
            ("", WebListen::Off),
            (
                "[::1]:80",
                WebListen::At("[::1]:80".parse().expect("an address")),
            ),
        ] {
            assert_eq!(WebListen::try_from(text.to_owned()), Ok(listen));
            assert_eq!(String::from(listen), text);
        }
        for wrong in ["8080", "localhost:8080", "off"] {
            assert!(WebListen::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
