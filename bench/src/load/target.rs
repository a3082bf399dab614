//! The server's URL: what carries the bytes, and what is spoken over it.

use tightloop::Endpoint;

use super::options::Work;

/// Where the load goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// As it was given.
    pub url: String,
    /// What the client connects to.
    pub endpoint: Endpoint,
    /// What the scheme means where nothing else is said.
    pub work: Work,
    /// HTTP: what is asked for.
    pub path: String,
    /// HTTP: host and port as the URL has them.
    pub authority: String,
}

/// Schemes beyond those of tightloop's endpoints: the transport, the default port, the work.
const SCHEMES: [(&str, &str, u16, Work); 4] = [
    ("http", "tcp", 80, Work::Http),
    ("https", "tls", 443, Work::Http),
    ("redis", "tcp", 6379, Work::Resp),
    ("rediss", "tls", 6379, Work::Resp),
];

impl Target {
    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Target, String> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(format!("{url}: a URL is needed, such as tcp://127.0.0.1:9000"));
        };
        let known = SCHEMES.iter().find(|known| known.0.eq_ignore_ascii_case(scheme));
        let (_, transport, port, work) = *known.unwrap_or(&("", "", 0, Work::Echo));
        let (authority, path) = match rest.find('/') {
            Some(slash) if known.is_some() => rest.split_at(slash),
            _ => (rest, ""),
        };
        let text = match known {
            Some(_) if has_port(authority) => format!("{transport}://{authority}"),
            Some(_) => format!("{transport}://{authority}:{port}"),
            None => url.to_owned(),
        };
        let endpoint: Endpoint = text.parse().map_err(|error| format!("{url}: {error}"))?;
        let is_nowhere = endpoint.host().is_none() && !endpoint.is_unix();
        if is_nowhere {
            return Err(format!("{url}: the host is missing, such as in tcp://127.0.0.1:9000"));
        }
        if work == Work::Resp && !matches!(path, "" | "/") {
            return Err(format!("{url}: databases other than the first are not supported"));
        }
        let authority = if endpoint.is_unix() { "localhost" } else { authority }.to_owned();
        let path = if path.is_empty() { "/" } else { path }.to_owned();
        Ok(Target { url: url.to_owned(), endpoint, work, path, authority })
    }
}

/// Whether there is a port behind the host, which may be an IPv6 address in brackets.
fn has_port(authority: &str) -> bool {
    let behind_brackets = authority.rsplit(']').next().unwrap_or(authority);
    behind_brackets.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> String {
        Target::parse(url).unwrap().endpoint.to_string()
    }

    #[test]
    fn well_known_ports_may_be_left_out() {
        assert_eq!(endpoint("http://localhost"), "tcp://localhost:80");
        assert_eq!(endpoint("http://localhost:8080/a/b?c"), "tcp://localhost:8080");
        assert_eq!(endpoint("https://[::1]/"), "tls://[::1]:443");
        assert_eq!(endpoint("redis://localhost"), "tcp://localhost:6379");
        assert_eq!(endpoint("rediss://[::1]:1"), "tls://[::1]:1");
        assert_eq!(endpoint("udp://127.0.0.1:9"), "udp://127.0.0.1:9");
    }

    #[test]
    fn the_scheme_says_what_is_done() {
        assert_eq!(Target::parse("http://a/x?y=1").unwrap().path, "/x?y=1");
        assert_eq!(Target::parse("http://a").unwrap().work, Work::Http);
        assert_eq!(Target::parse("REDIS://a").unwrap().work, Work::Resp);
        assert_eq!(Target::parse("unix:///tmp/a").unwrap().work, Work::Echo);
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused() {
        for wrong in [
            "",
            "localhost:80",
            "ftp://a:1",
            "tcp://a",
            "tcp://:80",
            "http://",
            "tcp://a:1/b",
            "redis://a/3",
        ] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
