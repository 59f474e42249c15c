//! Commands out of bytes: every row's syntax line, read as a grammar, says which arguments
//! make sense; now and then one of them is replaced by something that does not.

use holdfast_engine::command::Command;
use holdfast_engine::script::Sha;
use holdfast_engine::time::UnixMillis;

/// Keys: few, so that commands meet. The last two differ from the others in length and bytes.
const KEYS: &[&[u8]] = &[b"a", b"b", b"c", b"d", b"e", b"", b"\x00\xffkey that is a bit longer"];

/// Numbers at which something begins, ends or overflows.
const NUMBERS: &[&[u8]] = &[
    b"0",
    b"1",
    b"2",
    b"3",
    b"-1",
    b"-2",
    b"-3",
    b"5",
    b"10",
    b"100",
    b"-100",
    b"4096",
    b"4097",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775806",
    b"2147483648",
    b"9007199254740993",
    b"1.5",
    b"-0",
    b"007",
    b"+1",
    b" 1",
    b"1e3",
    b"18446744073709551615",
];

/// Durations and instants that pass, or overflow.
const TIMES: &[&[u8]] = &[
    b"1",
    b"2",
    b"5",
    b"10",
    b"60",
    b"1000",
    b"100000",
    b"0",
    b"-1",
    b"9223372036854775807",
    b"9223372036854775",
    b"-9223372036854775808",
    b"1.0",
    b"soon",
];

const SCORES: &[&[u8]] = &[
    b"0",
    b"-0",
    b"1",
    b"2",
    b"-1.5",
    b"1e308",
    b"1.7976931348623157e308",
    b"inf",
    b"-inf",
    b"+inf",
    b"nan",
    b"3.0000000000000004",
    b"(1",
    b"(2",
    b"(inf",
    b"0.1",
    b"1e-320",
    b"0x10",
    b"9007199254740993",
];

const LEX: &[&[u8]] = &[b"-", b"+", b"[a", b"(a", b"[m1", b"(m3", b"[", b"(", b"m"];

const VALUES: &[&[u8]] = &[
    b"",
    b"x",
    b"hello",
    b"m1",
    b"m2",
    b"m3",
    b"m4",
    b"m5",
    b"m6",
    b"m7",
    b"m8",
    b"1",
    b"2",
    b"-7",
    b"12345678901234567890",
    b"9223372036854775807",
    b"3.5",
    b"\x00\r\n\xff",
    b"a value that is rather longer than the sixty-four bytes that a listpack takes of one",
    b"get",
    b"del",
    b"incr",
    b"expire",
    b"hash",
    b"list",
    b"zset",
    b"string",
    b"set",
];

/// Ids of streams' entries, and what stands for one; few, so that they meet.
const IDS: &[&[u8]] = &[
    b"*",
    b"*",
    b"$",
    b">",
    b">",
    b"0",
    b"-",
    b"+",
    b"1-1",
    b"1-*",
    b"2",
    b"2-3",
    b"(1",
    b"5-0",
    b"1700000000000",
    b"1700000000001-0",
    b"1700000001000-5",
    b"1700000010000-*",
    b"18446744073709551615-18446744073709551615",
    b"18446744073709551615-0",
    b"-1-0",
];

/// Groups and consumers.
const NAMES: &[&[u8]] = &[b"g", b"g", b"h", b"c", b""];

const PATTERNS: &[&[u8]] = &[b"*", b"?", b"m*", b"[a-c]", b"[^m]*", b"\\*", b"*1", b"[", b""];

const CURSORS: &[&[u8]] = &[b"0", b"0", b"1", b"9007199254740991", b"18446744073709551615", b"-1"];

/// Scripts that write, fail halfway, draw, loop and reach for what they have not declared.
pub(super) const SCRIPTS: &[&[u8]] = &[
    b"return 1",
    b"return redis.call(unpack(ARGV))",
    b"return redis.pcall(unpack(ARGV))",
    b"redis.call('set', KEYS[1], ARGV[1]); return redis.call('incr', KEYS[1])",
    b"if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0",
    b"return redis.call('rpush', 'b', unpack(ARGV))",
    b"for i = 1, 20 do redis.call('sadd', KEYS[1], i, math.random(100)) end \
      return redis.call('spop', KEYS[1], 3)",
    UNORDERED_SCRIPTS[0],
    UNORDERED_SCRIPTS[1],
    b"while true do redis.call('incr', 'd') end",
    b"return {redis.call('ttl', KEYS[1]), redis.call('dbsize')}",
    b"redis.call('select', 1); return redis.call('set', KEYS[1], ARGV[1])",
    b"return redis.call('eval', 'return 1', 0)",
    b"#!lua flags=no-writes\nreturn redis.call('set', KEYS[1], 'x')",
    b"return {err = 'ERR mine'}",
    b"syntax error",
];

/// Those whose reply depends on where keys stand.
pub(super) const UNORDERED_SCRIPTS: &[&[u8]] = &[
    b"return redis.call('randomkey')",
    b"redis.call('set', 'c', 'x'); return redis.call('keys', '*')",
];

/// The input, as a source of choices; all zeros once it is used up.
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// Choices made by `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Whether the input is used up.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    /// A number below `bound`, which is at most 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// A part of a syntax line.
#[derive(Debug)]
enum Part {
    Word(&'static str),
    /// `[…]`, or with `...` any number of times; `<…>` always. One of the alternatives.
    Group {
        alternatives: Vec<Vec<Part>>,
        optional: bool,
        repeats: bool,
    },
}

/// The syntax of every row.
pub struct Grammar {
    rows: Vec<(&'static Command, Vec<Part>)>,
}

impl Grammar {
    /// The grammar of these rows, subcommands included.
    pub fn of(rows: &[&'static Command]) -> Self {
        let leaves = rows.iter().flat_map(|row| {
            let alone: &[Command] = if row.subcommands.is_empty() {
                std::slice::from_ref(*row)
            } else {
                row.subcommands
            };
            alone
        });
        Self { rows: leaves.map(|row| (row, parse(row.syntax))).collect() }
    }

    /// A command whose number of arguments is one its row accepts.
    pub fn call(
        &self,
        choices: &mut Choices<'_>,
        now: UnixMillis,
    ) -> (&'static Command, Vec<Vec<u8>>) {
        let number = usize::from(choices.byte()) * 256 + usize::from(choices.byte());
        let (row, parts) = &self.rows[number % self.rows.len()];
        let mut writer = Writer { args: vec![row.name.as_bytes().to_vec()], count: None, now };
        if let Some(parent) = row.parent {
            writer.args.insert(0, parent.as_bytes().to_vec());
        }
        let first = writer.args.len();
        writer.write(parts, choices);
        writer.close_count();
        let mut args = writer.args;
        if choices.below(6) == 0 {
            damage(&mut args, first, choices);
        }
        while !row.accepts(args.len()) {
            if row.arity > 0 && args.len() > row.arity as usize {
                args.pop();
            } else {
                args.push(any(choices).to_vec());
            }
        }
        (row, args)
    }
}

/// Replaces, drops, doubles or adds an argument.
fn damage(args: &mut Vec<Vec<u8>>, first: usize, choices: &mut Choices<'_>) {
    if args.len() == first {
        return args.push(any(choices).to_vec());
    }
    let at = first + choices.below(args.len() - first);
    match choices.below(4) {
        0 => drop(args.remove(at)),
        1 => args.insert(at, args[at].clone()),
        2 => args.push(any(choices).to_vec()),
        _ => args[at] = any(choices).to_vec(),
    }
}

fn any(choices: &mut Choices<'_>) -> &'static [u8] {
    let pool = choices.one_of(&[KEYS, NUMBERS, TIMES, SCORES, LEX, VALUES, PATTERNS, SCRIPTS, IDS]);
    choices.one_of(pool)
}

/// Writes arguments down the parts of a syntax line.
struct Writer {
    args: Vec<Vec<u8>>,
    /// Where `numkeys` stands whose keys are being written.
    count: Option<usize>,
    now: UnixMillis,
}

impl Writer {
    fn write(&mut self, parts: &[Part], choices: &mut Choices<'_>) {
        for part in parts {
            match part {
                Part::Word(word) => self.word(word, choices),
                Part::Group { alternatives, optional, repeats } => {
                    let times = match (optional, repeats) {
                        (true, true) => choices.below(4),
                        (true, false) => choices.below(2),
                        (false, _) => 1,
                    };
                    for _ in 0..times {
                        self.write(&alternatives[choices.below(alternatives.len())], choices);
                    }
                }
            }
        }
    }

    fn word(&mut self, word: &str, choices: &mut Choices<'_>) {
        let is_key = is_key(word);
        if !is_key {
            self.close_count();
        }
        let arg = match word {
            _ if is_key => choices.one_of(KEYS),
            "numkeys" | "numfields" => {
                self.count = Some(self.args.len());
                b"0"
            }
            _ if !word.bytes().any(|byte| byte.is_ascii_lowercase()) => word.as_bytes(),
            "timeout" => b"0",
            "script" => choices.one_of(SCRIPTS),
            "sha1" => {
                let sha = Sha::of(choices.one_of(SCRIPTS));
                return self.args.push(sha.to_string().into_bytes());
            }
            "pattern" => choices.one_of(PATTERNS),
            "cursor" => choices.one_of(CURSORS),
            "score" => choices.one_of(SCORES),
            "weight" => choices.one_of(&[&b"1"[..], b"2", b"-0.5", b"inf", b"nan"]),
            "min" | "max" | "start" | "end" | "stop" | "increment" => {
                let pool = choices.one_of(&[NUMBERS, NUMBERS, SCORES, LEX, IDS]);
                choices.one_of(pool)
            }
            "id" | "last-id" | "lastid" | "max-deleted-id" => choices.one_of(IDS),
            "threshold" => choices.one_of(&[&b"0"[..], b"2", b"5", b"3-0", b"1700000000001"]),
            "group" | "consumer" => choices.one_of(NAMES),
            "min-idle-time" | "ms" => choices.one_of(TIMES),
            "db" | "index1" | "index2" | "destination-db" => choices.one_of(&NUMBERS[..4]),
            _ if word.starts_with("unix-time") => {
                let ms = self.now.0 + [1, 100, 5000, 1_000_000, 0, -1][choices.below(6)];
                let at = if word.ends_with("milliseconds") { ms } else { ms / 1000 + 1 };
                return self.args.push(at.to_string().into_bytes());
            }
            _ if word.contains("seconds") => choices.one_of(TIMES),
            "count" | "index" | "offset" | "limit" | "decrement" | "rank" | "len"
            | "num-matches" | "min-match-len" => choices.one_of(NUMBERS),
            "arg" => any(choices),
            _ => choices.one_of(VALUES),
        };
        self.args.push(arg.to_vec());
    }

    /// Fills in how many keys followed `numkeys`.
    fn close_count(&mut self) {
        if let Some(at) = self.count.take() {
            self.args[at] = (self.args.len() - at - 1).to_string().into_bytes();
        }
    }
}

fn is_key(word: &str) -> bool {
    matches!(
        word,
        "key" | "key1" | "key2" | "newkey" | "source" | "destination" | "dst" | "src" | "field"
    )
}

fn parse(syntax: &'static str) -> Vec<Part> {
    let mut words = Vec::new();
    for word in syntax.split_ascii_whitespace() {
        let mut rest = word;
        while let Some(at) = rest.find(['[', ']', '<', '>', '|']) {
            words.extend((at > 0).then(|| &rest[..at]));
            words.push(&rest[at..=at]);
            rest = &rest[at + 1..];
        }
        words.extend((!rest.is_empty()).then_some(rest));
    }
    let mut words = &words[..];
    let parts = sequence(&mut words);
    assert!(words.is_empty(), "a syntax line with brackets that do not match: {syntax}");
    parts
}

fn sequence(words: &mut &[&'static str]) -> Vec<Part> {
    let mut parts = Vec::new();
    while let [first, rest @ ..] = *words {
        match *first {
            "]" | ">" | "|" => break,
            open @ ("[" | "<") => {
                *words = rest;
                parts.push(group(words, open == "["));
            }
            "..." => {
                *words = rest;
                // Outside brackets what it follows is repeated; once will do.
            }
            word => {
                *words = rest;
                parts.push(Part::Word(word));
            }
        }
    }
    parts
}

fn group(words: &mut &[&'static str], optional: bool) -> Part {
    let mut alternatives = Vec::new();
    let mut repeats = false;
    loop {
        let inner = *words;
        alternatives.push(sequence(words));
        repeats |= inner[..inner.len() - words.len()].last() == Some(&"...");
        let [end, rest @ ..] = *words else { break };
        *words = rest;
        if *end != "|" {
            break;
        }
    }
    Part::Group { alternatives, optional, repeats }
}
