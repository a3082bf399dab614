"""Every command of the example kv through redis-py: started by ci/kv.py with its port and protocol."""

import sys
import time

import redis

COMMANDS = """PING ECHO HELLO AUTH SELECT QUIT COMMAND CLIENT CONFIG INFO DBSIZE FLUSHALL SET GET GETDEL
GETEX MSET MGET SETNX SETEX APPEND STRLEN INCR INCRBY DECR DECRBY DEL UNLINK EXISTS EXPIRE PEXPIRE TTL
PTTL PERSIST TYPE KEYS SCAN HSET HGET HDEL HGETALL LPUSH RPUSH LPOP RPOP LRANGE SADD SREM SMEMBERS
SISMEMBER SUBSCRIBE UNSUBSCRIBE PUBLISH""".split()

port, protocol = int(sys.argv[1]), int(sys.argv[2])
sent = set()
send_command = redis.Connection.send_command
pack_commands = redis.Connection.pack_commands


def record(self, *args, **options):
    sent.add(str(args[0]).split()[0].upper())
    return send_command(self, *args, **options)


def record_all(self, commands):
    commands = list(commands)
    sent.update(str(command[0]).split()[0].upper() for command in commands)
    return pack_commands(self, commands)


redis.Connection.send_command, redis.Connection.pack_commands = record, record_all

r = redis.Redis(port=port, protocol=protocol, client_name="redis-py")
r.flushall()


def refused(call, words):
    try:
        call()
    except redis.RedisError as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"no error: {words}")



assert r.ping() and r.echo("x") == b"x"
assert r.set("k", b"\x00\xff") and r.get("k") == b"\x00\xff"
assert r.set("k", 1, nx=True) is None and r.set("k", 2, xx=True, ex=100) and 70 <= r.ttl("k") <= 100
assert r.set("k", 3, keepttl=True, get=True) == b"2" and 0 < r.pttl("k") <= 100_000
assert r.getex("k", persist=True) == b"3" and r.ttl("k") == -1
assert r.mset({"a": 1, "b": 2}) and r.mget("a", "none", "b") == [b"1", None, b"2"]
assert r.setnx("a", 2) is False and r.setex("e", 10, "x") and r.psetex("p", 10_000, "x")
assert r.append("e", "yz") == 3 and r.strlen("e") == 3 and r.getdel("e") == b"xyz"
assert (r.incr("n"), r.incrby("n", 10), r.decr("n"), r.decrby("n", 5)) == (1, 11, 10, 5)
# The client's own incr and decr send INCRBY and DECRBY.
assert (r.execute_command("INCR", "n"), r.execute_command("DECR", "n")) == (6, 5)
assert r.exists("n", "n", "none") == 2 and r.expire("n", 60) and r.pexpire("n", 60_000) and r.persist("n")
assert r.type("n") == b"string" and sorted(r.keys("[ab]")) == [b"a", b"b"]
assert sorted(r.scan_iter(match="*", count=2)) == sorted(r.keys())
assert sorted(r.scan_iter(_type="HASH")) == []
assert r.hset("h", mapping={"f": 1, "g": 2}) == 2 and r.hget("h", "f") == b"1"
assert r.hgetall("h") == {b"f": b"1", b"g": b"2"} and r.hlen("h") == 2 and r.hexists("h", "g")
assert r.hdel("h", "f", "g") == 2 and not r.exists("h")
assert r.rpush("l", 1, 2, 3) == 3 and r.lpush("l", 0) == 4 and r.llen("l") == 4
assert r.lrange("l", 0, -1) == [b"0", b"1", b"2", b"3"]
assert r.lpop("l") == b"0" and r.rpop("l", 2) == [b"3", b"2"]
assert r.sadd("s", "x", "y") == 2 and r.sismember("s", "x") and r.scard("s") == 2
assert set(r.smembers("s")) == {b"x", b"y"} and r.srem("s", "x") == 1
assert r.delete("a", "b") == 2 and r.unlink("s") == 1 and r.dbsize() > 0
assert r.info()["maxmemory_policy"] == "noeviction" and "db0" in r.info("keyspace")
assert r.config_get("maxmemory")["maxmemory"] == "0" and r.config_set("maxmemory", 0)
assert r.client_getname() in ("redis-py", b"redis-py") and r.client_id() > 0
assert any(c["name"] == "redis-py" for c in r.client_list()) and r.client_info()["lib-name"] == "redis-py"
assert r.client_no_evict("ON") and r.command_count() > 50 and "get" in r.command()

pipe = r.pipeline(transaction=False)
for n in range(1000):
    pipe.set(f"p{n}", n).get(f"p{n}")
assert pipe.execute() == [x for n in range(1000) for x in (True, b"%d" % n)]

big = bytes(range(256)) * (64 << 12)
assert len(big) == 64 << 20 and r.set("big", big) and r.get("big") == big and r.delete("big")

r.set("soon", 1, px=30)
end = time.monotonic() + 10
while r.exists("soon"):
    assert time.monotonic() < end

refused(lambda: r.incr("l"), "WRONGTYPE")
refused(lambda: r.execute_command("BOGUS"), "unknown command 'BOGUS'")
refused(lambda: r.set("k", 1, ex=-1), "invalid expire time in 'set' command")
refused(lambda: r.execute_command("AUTH", "x"), "without any password configured")

# HELLO, SELECT, CLIENT SETNAME and QUIT are a connection's own.
own = redis.Redis(port=port, protocol=protocol, single_connection_client=True)
hello = own.execute_command("HELLO", protocol)
hello = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2]))
assert hello[b"proto"] == protocol and hello[b"server"] == b"redis", hello
assert own.select(2) and own.set("k", "two") and own.select(0) and own.get("k") != b"two"
assert own.client_setname("me") and own.client_getname() in ("me", b"me")
assert own.client_setinfo("LIB-VER", "9")
assert own.execute_command("QUIT") in (True, b"OK")
own.close()

sub = r.pubsub()
sub.subscribe("news", "other")
messages = []
end = time.monotonic() + 10
while len(messages) < 2 and time.monotonic() < end:
    message = sub.get_message(timeout=1)
    messages += [message] if message else []
assert [m["type"] for m in messages] == ["subscribe"] * 2
assert r.publish("news", "hello") == 1
message = None
while not message and time.monotonic() < end:
    message = sub.get_message(timeout=1)
assert (message["channel"], message["data"]) == (b"news", b"hello")
sub.unsubscribe()
sub.close()

other = redis.Redis(port=port, protocol=protocol, db=3)
assert other.set("only here", 1) and r.get("only here") is None and other.flushdb() and r.flushall()

missing = [command for command in COMMANDS if command not in sent]
assert not missing, f"not exercised: {missing}"
