//! What the clients did: one line for each event, as a client prints and the rig reads it.

use std::fmt;
use std::str::FromStr;

/// Something a client did. Times are nanoseconds of [`clock`](crate::clock).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// It asks for the lock.
    Asks,
    /// It has the lock until `deadline`, unless it gives it up before.
    Holds { token: u64, deadline: u64 },
    /// It has made the lock last until `deadline`.
    Extends { deadline: u64 },
    /// It did not get it; the word says why.
    Fails { why: String },
    /// It is about to give the lock up.
    Releases,
    /// The register acknowledged its write.
    Wrote,
    /// The register refused its token.
    Refused,
}

/// An event with who, about what and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) client: u64,
    /// Counts the acquisitions of a client.
    pub(crate) attempt: u64,
    pub(crate) resource: String,
    pub(crate) at: u64,
    pub(crate) what: What,
}

impl Event {
    /// The token that came with it.
    pub(crate) const fn token(&self) -> Option<u64> {
        match self.what {
            What::Holds { token, .. } => Some(token),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {} ", self.client, self.attempt, self.resource, self.at)?;
        match &self.what {
            What::Asks => f.write_str("asks"),
            What::Holds { token, deadline } => write!(f, "holds {token} {deadline}"),
            What::Extends { deadline } => write!(f, "extends {deadline}"),
            What::Fails { why } => write!(f, "fails {why}"),
            What::Releases => f.write_str("releases"),
            What::Wrote => f.write_str("wrote"),
            What::Refused => f.write_str("refused"),
        }
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_ascii_whitespace();
        let mut word = || words.next().ok_or_else(|| format!("a line cut short: {line:?}"));
        let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{line:?}: {error}"));
        let client = number(word()?)?;
        let attempt = number(word()?)?;
        let resource = word()?.to_owned();
        let at = number(word()?)?;
        let what = match word()? {
            "asks" => What::Asks,
            "holds" => What::Holds { token: number(word()?)?, deadline: number(word()?)? },
            "extends" => What::Extends { deadline: number(word()?)? },
            "fails" => What::Fails { why: word()?.to_owned() },
            "releases" => What::Releases,
            "wrote" => What::Wrote,
            "refused" => What::Refused,
            other => return Err(format!("an unknown event: {other:?}")),
        };
        Ok(Self { client, attempt, resource, at, what })
    }
}
