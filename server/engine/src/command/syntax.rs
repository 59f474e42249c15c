//! Reading a row's syntax line as a tree of arguments, for COMMAND DOCS.
//!
//! The notation is that of Redis's documentation: `[optional]`, `<one | of | these>`, `name`,
//! `[name ...]` for repetition, upper-case words for tokens. One line in the row thus serves
//! the documentation, redis-cli's hints and COMPATIBILITY.md.

/// What an argument is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentKind {
    /// A value; its kind is guessed from its name.
    Value(&'static str),
    /// A word by itself.
    PureToken,
    /// One of the children.
    OneOf,
    /// The children in order.
    Block,
}

/// One argument of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Lower-case name.
    pub name: String,
    /// What it is.
    pub kind: ArgumentKind,
    /// The word in front of it, upper case.
    pub token: Option<String>,
    /// May be left out.
    pub optional: bool,
    /// May be repeated.
    pub multiple: bool,
    /// Of a `OneOf` or a `Block`.
    pub children: Vec<Argument>,
}

/// The arguments of a syntax line; empty for an empty line.
#[must_use]
pub fn parse_syntax(line: &str) -> Vec<Argument> {
    let spaced = ["[", "]", "<", ">", "|"]
        .iter()
        .fold(line.to_owned(), |text, mark| text.replace(mark, &format!(" {mark} ")));
    let words: Vec<&str> = spaced.split_ascii_whitespace().collect();
    let mut rest = words.as_slice();
    let mut arguments = Vec::new();
    while !rest.is_empty() {
        let (group, after) = sequence(rest, None);
        arguments.extend(group);
        // A stray closing mark would stop the walk; it is passed over.
        rest = after.get(1..).unwrap_or_default();
    }
    arguments
}

/// Arguments up to `close`, which is left in the rest.
fn sequence<'a>(mut words: &'a [&'a str], close: Option<&str>) -> (Vec<Argument>, &'a [&'a str]) {
    let mut branches: Vec<Vec<Argument>> = vec![Vec::new()];
    while let [word, after @ ..] = words {
        match *word {
            word if Some(word) == close => break,
            "]" | ">" => break,
            "|" => {
                branches.push(Vec::new());
                words = after;
            }
            "..." => {
                if let Some(last) = branches.last_mut().and_then(|branch| branch.last_mut()) {
                    last.multiple = true;
                }
                words = after;
            }
            "[" | "<" => {
                let close = if *word == "[" { "]" } else { ">" };
                let (inner, tail) = sequence(after, Some(close));
                if inner.is_empty() {
                    // `[...]`: what stands before it may be repeated.
                    if let Some(before) = last_of(&mut branches).last_mut() {
                        before.multiple = true;
                    }
                    words = tail.get(1..).unwrap_or_default();
                    continue;
                }
                let mut group = collapse(inner);
                group.optional |= *word == "[";
                let branch = last_of(&mut branches);
                // `key [key ...]` is one argument that may be repeated.
                match branch.last_mut() {
                    Some(before)
                        if *word == "["
                            && group.multiple
                            && before.name == group.name
                            && before.children == group.children =>
                    {
                        before.multiple = true;
                    }
                    _ => branch.push(group),
                }
                words = tail.get(1..).unwrap_or_default();
            }
            word => {
                last_of(&mut branches).push(leaf(word));
                words = after;
            }
        }
    }
    let arguments = if branches.len() == 1 {
        join_tokens(branches.pop().unwrap_or_default())
    } else {
        let branches = branches.into_iter().filter(|branch| !branch.is_empty());
        let children: Vec<Argument> =
            branches.map(|branch| collapse(join_tokens(branch))).collect();
        let name = children.first().map_or_else(String::new, |child| child.name.clone());
        vec![node(name, ArgumentKind::OneOf, children)]
    };
    (arguments, words)
}

fn last_of(branches: &mut Vec<Vec<Argument>>) -> &mut Vec<Argument> {
    if branches.is_empty() {
        branches.push(Vec::new());
    }
    let last = branches.len() - 1;
    &mut branches[last]
}

fn node(name: String, kind: ArgumentKind, children: Vec<Argument>) -> Argument {
    Argument { name, kind, token: None, optional: false, multiple: false, children }
}

fn leaf(word: &str) -> Argument {
    let is_token = word.chars().any(|c| c.is_ascii_uppercase())
        && !word.chars().any(|c| c.is_ascii_lowercase())
        || matches!(word, "=" | "~");
    let name = word.to_ascii_lowercase();
    if is_token {
        let mut argument = node(name, ArgumentKind::PureToken, Vec::new());
        argument.token = Some(word.to_owned());
        return argument;
    }
    let kind = ArgumentKind::Value(value_kind(&name));
    node(name, kind, Vec::new())
}

/// The type COMMAND DOCS gives a value of this name.
fn value_kind(name: &str) -> &'static str {
    match name {
        "key" | "source" | "destination" | "newkey" | "key1" | "key2" | "shardchannel-key" => "key",
        "pattern" => "pattern",
        "unix-time-seconds" | "unix-time-milliseconds" => "unix-time",
        "score" | "weight" | "timeout" | "increment-float" => "double",
        "seconds" | "milliseconds" | "count" | "numkeys" | "index" | "start" | "stop"
        | "offset" | "increment" | "decrement" | "cursor" | "db" | "destination-db"
        | "numreplicas" | "numlocal" | "limit" | "len" | "rank" | "num-matches" | "maxlen"
        | "min-match-len" | "end" | "client-id" | "protover" | "version" | "samples"
        | "numfields" | "index1" | "index2" => "integer",
        _ => "string",
    }
}

/// A token in front of a value belongs to it: `EX seconds`.
fn join_tokens(arguments: Vec<Argument>) -> Vec<Argument> {
    let mut joined: Vec<Argument> = Vec::new();
    for argument in arguments {
        match joined.last_mut() {
            Some(token)
                if token.kind == ArgumentKind::PureToken
                    && !token.optional
                    && !argument.optional
                    && argument.token.is_none() =>
            {
                let word = token.token.take();
                *token = Argument { token: word, ..argument };
            }
            _ => joined.push(argument),
        }
    }
    joined
}

/// Several arguments as one.
fn collapse(mut arguments: Vec<Argument>) -> Argument {
    match arguments.len() {
        1 => arguments.remove(0),
        _ => {
            let name = arguments
                .iter()
                .find(|argument| argument.kind != ArgumentKind::PureToken)
                .or(arguments.first())
                .map_or_else(|| "block".to_owned(), |argument| argument.name.clone());
            let multiple = arguments.last().is_some_and(|last| last.name == "...");
            let mut block = node(name, ArgumentKind::Block, arguments);
            block.multiple = multiple;
            block
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_blocks_and_repetition_are_told_apart() {
        let arguments =
            parse_syntax("key value [NX | XX] [GET] [EX seconds | PX milliseconds | KEEPTTL]");
        assert_eq!(arguments.len(), 5);
        assert_eq!(arguments[0].kind, ArgumentKind::Value("key"));
        assert_eq!(arguments[2].kind, ArgumentKind::OneOf);
        assert!(arguments[2].optional);
        assert_eq!(arguments[3].token.as_deref(), Some("GET"));
        let expiry = &arguments[4].children[0];
        assert_eq!((expiry.name.as_str(), expiry.token.as_deref()), ("seconds", Some("EX")));
    }

    #[test]
    fn choices_and_blocks_are_never_empty() {
        fn check(arguments: &[Argument]) {
            for argument in arguments {
                let nests = matches!(argument.kind, ArgumentKind::OneOf | ArgumentKind::Block);
                assert_eq!(nests, !argument.children.is_empty(), "{argument:?}");
                assert!(!argument.name.is_empty());
                check(&argument.children);
            }
        }
        // redis-cli follows these trees without looking whether a choice has any branch.
        for row in crate::engine::table().rows() {
            check(&parse_syntax(row.syntax));
        }
        check(&parse_syntax("<ip:port | <[ID client-id] | [SKIPME <YES | NO>]> [...]>"));
        check(&parse_syntax("[a | ] <> [] x"));
    }

    #[test]
    fn a_repeated_argument_is_one() {
        let arguments = parse_syntax("key [key ...]");
        assert_eq!(arguments.len(), 1);
        assert!(arguments[0].multiple);
        let arguments = parse_syntax("key value [key value ...]");
        assert!(!arguments.is_empty());
        assert!(parse_syntax("").is_empty());
        assert!(parse_syntax("] ] |").len() <= 2);
    }
}
