//! The request parser: how bytes are split changes nothing, limits hold, nothing panics.

use holdfast::resp::{
    ArgRoom, Batch, LINE_LEN_MAX, Limits, RequestParser, Status, UNAUTHENTICATED_ARGS_MAX,
    UNAUTHENTICATED_BULK_LEN_MAX,
};

type Command = Vec<Vec<u8>>;

/// A limit on bulks low enough for inputs to reach it.
const BULK_LEN_MAX: usize = 1000;
/// A limit on arguments low enough for inputs to reach it.
const ARGS_MAX: usize = 20;

/// The first bytes choose where the rest is split and which limits hold.
pub fn run(data: &[u8]) {
    let [choice, steps @ .., _] = data.first_chunk::<8>().copied().unwrap_or_default();
    let input = data.get(8..).unwrap_or_default();
    let mut limits = Limits::with_bulk_len_max(BULK_LEN_MAX).args_max(ARGS_MAX);
    if choice % 2 == 1 {
        limits = limits.unauthenticated();
    }
    let whole = feed(limits, input, &[input.len()]);
    check_limits(limits, &whole.0);
    let steps = steps.map(|step| usize::from(step) + 1);
    assert_eq!(feed(limits, input, &steps), whole, "pieces");
    // Byte by byte is slow for long inputs and finds no more there.
    if input.len() < 4096 {
        assert_eq!(feed(limits, input, &[1]), whole, "single bytes");
    }
    assert_eq!(one_by_one(limits, input), whole, "one command at a time");
}

/// Parses `input` in pieces of the lengths `steps`, taken in turn.
fn feed(limits: Limits, input: &[u8], steps: &[usize]) -> (Vec<Command>, Status) {
    let mut parser = RequestParser::new(limits);
    let (mut batch, mut room) = (Batch::new(), ArgRoom::new());
    let (mut buf, mut commands) = (Vec::new(), Vec::new());
    let (mut rest, mut steps) = (input, steps.iter().cycle());
    loop {
        let step = steps.next().map_or(1, |step| (*step).min(rest.len()));
        buf.extend_from_slice(&rest[..step]);
        rest = &rest[step..];
        let parsed = parser.parse(&buf, &mut batch);
        let slices = batch.commands(&buf, &mut room);
        commands.extend(slices.iter().map(|args| args.iter().map(|arg| arg.to_vec()).collect()));
        room.take_back(slices);
        assert!(parsed.consumed <= buf.len());
        if let Status::Partial { missing } = parsed.status {
            assert!(missing > 0, "something must be missing");
            assert!(missing <= BULK_LEN_MAX + 2, "no more than one argument is announced");
        }
        buf.drain(..parsed.consumed);
        if rest.is_empty() || matches!(parsed.status, Status::Failed(_)) {
            return (commands, parsed.status);
        }
    }
}

/// Parses `input` command by command.
fn one_by_one(limits: Limits, input: &[u8]) -> (Vec<Command>, Status) {
    let mut parser = RequestParser::new(limits);
    let (mut batch, mut commands, mut rest) = (Batch::new(), Vec::new(), input);
    loop {
        let parsed = parser.parse_one(rest, &mut batch);
        if batch.is_empty() {
            return (commands, parsed.status);
        }
        assert_eq!(batch.len(), 1);
        commands.push(batch.command(0, rest).map(<[u8]>::to_vec).collect());
        rest = &rest[parsed.consumed..];
    }
}

/// Multibulk requests obey the configured limits, inline ones that of a line.
fn check_limits(limits: Limits, commands: &[Command]) {
    let (args_max, bulk_len_max) = if limits.is_authenticated() {
        (ARGS_MAX, BULK_LEN_MAX)
    } else {
        (UNAUTHENTICATED_ARGS_MAX, UNAUTHENTICATED_BULK_LEN_MAX.min(BULK_LEN_MAX))
    };
    for command in commands {
        assert!(!command.is_empty());
        let len: usize = command.iter().map(Vec::len).sum();
        let multibulk =
            command.len() <= args_max && command.iter().all(|arg| arg.len() <= bulk_len_max);
        assert!(multibulk || len + command.len() <= LINE_LEN_MAX + 1);
    }
}
