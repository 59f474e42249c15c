//! Random commands on a few keys: sets, sorted sets, a string and keys that are not there.

use super::{Bytes, words};

/// A small deterministic generator of commands.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }

    fn pick(&mut self, from: &[&str]) -> Bytes {
        from[self.below(from.len())].as_bytes().to_vec()
    }

    fn set_key(&mut self) -> Bytes {
        self.pick(&["s1", "s2", "s3", "s4", "s1", "s2", "s3", "z1", "text", "none"])
    }

    fn zset_key(&mut self) -> Bytes {
        self.pick(&["z1", "z2", "z3", "z4", "z1", "z2", "z3", "s1", "text", "none"])
    }

    fn member(&mut self) -> Bytes {
        match self.below(8) {
            0..=3 => self.below(40).to_string().into_bytes(),
            4 => self.pick(&["-1", "70000", "9223372036854775807", "-9223372036854775808"]),
            5 => self.pick(&["a", "b", "c", "abc", "", "007", "-0", "1.5"]),
            6 => format!("member:{:012}", self.below(60)).into_bytes(),
            _ => vec![b'x'; self.below(40)],
        }
    }

    fn score(&mut self) -> Bytes {
        match self.below(12) {
            0..=4 => (self.below(20) as i64 - 8).to_string().into_bytes(),
            5..=6 => format!("{}.{}", self.below(10), self.below(1000)).into_bytes(),
            7 => self.pick(&[
                "inf",
                "-inf",
                "+inf",
                "1e300",
                "-1e300",
                "1e19",
                "4611686018427387904",
            ]),
            8 => self.pick(&["0", "-0", "0.0", "0.1", "1e-7"]),
            9 => self.pick(&["nan", "x", "", "1 ", " 1", "0x1p3", "1e400"]),
            _ => self.below(1_000_000).to_string().into_bytes(),
        }
    }

    fn score_bound(&mut self) -> Bytes {
        match self.below(8) {
            0 => self.pick(&["-inf", "+inf", "inf", "(inf", "(-inf"]),
            1 => [b"(".to_vec(), self.score()].concat(),
            2 => self.pick(&["-inf", "+inf"]),
            _ => self.score(),
        }
    }

    fn lex_bound(&mut self) -> Bytes {
        match self.below(7) {
            0..=1 => self.pick(&["-", "+"]),
            2 => self.pick(&["", "a", "--", "[", "("]),
            3..=4 => [b"[".to_vec(), self.member()].concat(),
            _ => [b"(".to_vec(), self.member()].concat(),
        }
    }

    fn index(&mut self) -> Bytes {
        match self.below(10) {
            0 => self.pick(&["x", "9223372036854775807", "-9223372036854775808", "1.5"]),
            _ => (self.below(30) as i64 - 12).to_string().into_bytes(),
        }
    }

    fn count(&mut self) -> Bytes {
        match self.below(12) {
            0 => self.pick(&["x", "-1", "0", "9223372036854775807", "-9223372036854775808"]),
            _ => self.below(12).to_string().into_bytes(),
        }
    }

    fn some(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> Bytes) -> Vec<Bytes> {
        let count = 1 + self.below(most);
        (0..count).map(|_| one(self)).collect()
    }

    fn limit(&mut self) -> Vec<Bytes> {
        match self.below(3) {
            0 => vec![b"LIMIT".to_vec(), self.index(), self.index()],
            _ => Vec::new(),
        }
    }

    fn set_command(&mut self) -> Vec<Bytes> {
        let name = self.pick(&[
            "SADD",
            "SADD",
            "SADD",
            "SADD",
            "SREM",
            "SISMEMBER",
            "SMISMEMBER",
            "SCARD",
            "SMEMBERS",
            "SMOVE",
            "SINTER",
            "SUNION",
            "SDIFF",
            "SINTERSTORE",
            "SUNIONSTORE",
            "SDIFFSTORE",
            "SINTERCARD",
            "SPOP",
            "SRANDMEMBER",
            "SSCAN",
            "OBJECT",
        ]);
        let rest = match name.as_slice() {
            b"SADD" | b"SREM" | b"SMISMEMBER" => {
                [vec![self.set_key()], self.some(6, Self::member)].concat()
            }
            b"SISMEMBER" => vec![self.set_key(), self.member()],
            b"SCARD" | b"SMEMBERS" => vec![self.set_key()],
            b"SMOVE" => vec![self.set_key(), self.set_key(), self.member()],
            b"SINTERCARD" => {
                let keys = self.some(3, Self::set_key);
                let count = match self.below(8) {
                    0 => self.count(),
                    _ => keys.len().to_string().into_bytes(),
                };
                let limit = match self.below(3) {
                    0 => vec![self.pick(&["LIMIT", "limit", "WHAT"]), self.count()],
                    _ => Vec::new(),
                };
                [vec![count], keys, limit].concat()
            }
            b"SPOP" | b"SRANDMEMBER" => match self.below(3) {
                0 => vec![self.set_key()],
                1 => vec![self.set_key(), self.index()],
                _ => vec![self.set_key(), self.count()],
            },
            b"SSCAN" => vec![self.set_key(), b"0".to_vec(), b"COUNT".to_vec(), b"10000".to_vec()],
            b"OBJECT" => vec![b"ENCODING".to_vec(), self.set_key()],
            _ => self.some(4, Self::set_key),
        };
        let mut args = [vec![name], rest].concat();
        if args[0].ends_with(b"STORE") && args.len() < 3 {
            args.push(self.set_key());
        }
        args
    }

    fn zset_command(&mut self) -> Vec<Bytes> {
        let name = self.pick(&[
            "ZADD",
            "ZADD",
            "ZADD",
            "ZADD",
            "ZADD",
            "ZINCRBY",
            "ZSCORE",
            "ZMSCORE",
            "ZCARD",
            "ZCOUNT",
            "ZLEXCOUNT",
            "ZRANK",
            "ZREVRANK",
            "ZRANGE",
            "ZRANGE",
            "ZRANGE",
            "ZREVRANGE",
            "ZRANGEBYSCORE",
            "ZREVRANGEBYSCORE",
            "ZRANGEBYLEX",
            "ZREVRANGEBYLEX",
            "ZRANGESTORE",
            "ZREM",
            "ZREMRANGEBYRANK",
            "ZREMRANGEBYSCORE",
            "ZREMRANGEBYLEX",
            "ZPOPMIN",
            "ZPOPMAX",
            "ZMPOP",
            "BZPOPMIN",
            "BZPOPMAX",
            "BZMPOP",
            "ZUNION",
            "ZINTER",
            "ZDIFF",
            "ZUNIONSTORE",
            "ZINTERSTORE",
            "ZDIFFSTORE",
            "ZINTERCARD",
            "ZRANDMEMBER",
            "ZSCAN",
            "OBJECT",
        ]);
        let rest = match name.as_slice() {
            b"ZADD" => {
                let mut args = vec![self.zset_key()];
                while self.below(3) == 0 {
                    args.push(self.pick(&["NX", "XX", "GT", "LT", "CH", "ch", "INCR"]));
                }
                for _ in 0..1 + self.below(5) {
                    args.push(self.score());
                    args.push(self.member());
                }
                if self.below(20) == 0 {
                    args.push(self.member());
                }
                args
            }
            b"ZINCRBY" => vec![self.zset_key(), self.score(), self.member()],
            b"ZSCORE" | b"ZRANK" | b"ZREVRANK" => vec![self.zset_key(), self.member()],
            b"ZMSCORE" | b"ZREM" => [vec![self.zset_key()], self.some(5, Self::member)].concat(),
            b"ZCARD" => vec![self.zset_key()],
            b"ZCOUNT" | b"ZREMRANGEBYSCORE" => {
                vec![self.zset_key(), self.score_bound(), self.score_bound()]
            }
            b"ZLEXCOUNT" | b"ZREMRANGEBYLEX" => {
                vec![b"lex".to_vec(), self.lex_bound(), self.lex_bound()]
            }
            b"ZREMRANGEBYRANK" => vec![self.zset_key(), self.index(), self.index()],
            b"ZRANGE" | b"ZRANGESTORE" => self.range(name == b"ZRANGESTORE"),
            b"ZREVRANGE" => {
                let mut args = vec![self.zset_key(), self.index(), self.index()];
                if self.below(2) == 0 {
                    args.push(self.pick(&["WITHSCORES", "withscores", "REV", "LIMIT"]));
                }
                args
            }
            b"ZRANGEBYSCORE" | b"ZREVRANGEBYSCORE" => {
                let mut args = vec![self.zset_key(), self.score_bound(), self.score_bound()];
                args.extend(self.limit());
                if self.below(2) == 0 {
                    args.push(self.pick(&["WITHSCORES", "WITHSCORES", "BYLEX"]));
                }
                args
            }
            b"ZRANGEBYLEX" | b"ZREVRANGEBYLEX" => {
                let mut args = vec![b"lex".to_vec(), self.lex_bound(), self.lex_bound()];
                args.extend(self.limit());
                if self.below(8) == 0 {
                    args.push(b"WITHSCORES".to_vec());
                }
                args
            }
            b"ZPOPMIN" | b"ZPOPMAX" => match self.below(4) {
                0 => vec![self.zset_key()],
                1 => vec![self.zset_key(), self.index()],
                _ => vec![self.zset_key(), self.count()],
            },
            b"ZMPOP" | b"BZMPOP" => {
                let keys = self.some(3, Self::zset_key);
                let count = match self.below(8) {
                    0 => self.count(),
                    _ => keys.len().to_string().into_bytes(),
                };
                let mut args =
                    [vec![count], keys, vec![self.pick(&["MIN", "MAX", "min", "MID"])]].concat();
                if self.below(2) == 0 {
                    args.extend([b"COUNT".to_vec(), self.count()]);
                }
                if name == b"BZMPOP" {
                    args.insert(0, self.timeout());
                }
                args
            }
            b"BZPOPMIN" | b"BZPOPMAX" => {
                [self.some(3, Self::zset_key), vec![self.timeout()]].concat()
            }
            b"ZRANDMEMBER" => match self.below(4) {
                0 => vec![self.zset_key()],
                1 => vec![self.zset_key(), self.count()],
                _ => vec![self.zset_key(), self.index(), self.pick(&["WITHSCORES", "WHAT"])],
            },
            b"ZSCAN" => vec![self.zset_key(), b"0".to_vec(), b"COUNT".to_vec(), b"10000".to_vec()],
            b"OBJECT" => vec![b"ENCODING".to_vec(), self.zset_key()],
            _ => self.combination(&name),
        };
        [vec![name], rest].concat()
    }

    fn timeout(&mut self) -> Bytes {
        self.pick(&["0", "0.01", "1", "-1", "x", "nan", "-0.0001"])
    }

    fn range(&mut self, stores: bool) -> Vec<Bytes> {
        let mut args = if stores { vec![self.zset_key()] } else { Vec::new() };
        match self.below(4) {
            0 => args.extend([
                self.zset_key(),
                self.score_bound(),
                self.score_bound(),
                b"BYSCORE".to_vec(),
            ]),
            1 => args.extend([
                b"lex".to_vec(),
                self.lex_bound(),
                self.lex_bound(),
                b"BYLEX".to_vec(),
            ]),
            _ => args.extend([self.zset_key(), self.index(), self.index()]),
        }
        if self.below(3) == 0 {
            args.push(b"REV".to_vec());
        }
        if self.below(2) == 0 {
            args.extend(self.limit());
        }
        if !stores && self.below(2) == 0 {
            args.push(b"WITHSCORES".to_vec());
        }
        if self.below(15) == 0 {
            args.push(self.pick(&["BYSCORE", "BYLEX", "REV", "WITHSCORES", "WHAT", "LIMIT"]));
        }
        args
    }

    fn combination(&mut self, name: &[u8]) -> Vec<Bytes> {
        let mut keys = self.some(3, Self::zset_key);
        if self.below(2) == 0 {
            keys.retain(|key| key != b"text");
            keys.push(self.pick(&["z1", "z2", "s2"]));
        }
        let count = match self.below(12) {
            0 => self.count(),
            _ => keys.len().to_string().into_bytes(),
        };
        let number = keys.len();
        let mut args = [vec![count], keys].concat();
        if name.ends_with(b"STORE") {
            args.insert(0, self.zset_key());
        }
        if self.below(3) == 0 {
            args.push(b"WEIGHTS".to_vec());
            args.extend((0..number).map(|_| self.score()));
        }
        if self.below(3) == 0 {
            args.extend([b"AGGREGATE".to_vec(), self.pick(&["SUM", "MIN", "MAX", "max", "AVG"])]);
        }
        if self.below(2) == 0 && !name.ends_with(b"STORE") {
            args.push(b"WITHSCORES".to_vec());
        }
        if name == b"ZINTERCARD" {
            args.truncate(1 + number);
            if self.below(2) == 0 {
                args.extend([b"LIMIT".to_vec(), self.count()]);
            }
        }
        args
    }

    /// Some command, arity aside a possible one.
    pub(crate) fn command(&mut self) -> Vec<Bytes> {
        if self.below(12) == 0 {
            // Lexical ranges are defined where all scores are equal.
            let mut args = words("ZADD lex");
            for member in self.some(6, Self::member) {
                args.extend([b"0".to_vec(), member]);
            }
            return args;
        }
        if self.below(5) < 2 { self.set_command() } else { self.zset_command() }
    }
}
