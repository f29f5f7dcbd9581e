"""Every default and every bound of the program, each beside its reason; nothing else in headrace holds such a number.

Constants only, units last in their names. A default is what a setting is when nobody sets it; NAME_MIN_ and NAME_MAX_
are the least and the most that it may be set to. Values without a setting are bounds that keep the program's own
memory, batches and messages finite.
"""

from typing import Final

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_GIB: Final = 1024 * _MIB
_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S

#: A namespace stands before a queue's hash tag in every key: no braces, colons or blanks.
NAMESPACE_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"

# The pool -----------------------------------------------------------------------------------------

#: Async slots: enough to hide 1 ms of waiting per job on one core, few enough that a downstream service survives it.
SLOTS: Final = 100
#: A slot is a coroutine of a few KiB; above this many, memory and the watchdog's sweep are felt.
SLOTS_MAX: Final = 100_000
#: Thread slots: the most that Python's own pool starts by default; more threads queue for the interpreter lock.
THREAD_SLOTS: Final = 32
#: Each thread reserves a stack of about 8 MiB of address space.
THREAD_SLOTS_MAX: Final = 1_000
#: Process slots are one a core by default: process handlers are for work that keeps a core busy.
PROCESS_SLOTS_MAX: Final = 512
#: Worker processes that `headrace run` starts; each is a whole worker with slots of its own.
PROCESSES: Final = 1
PROCESSES_MAX: Final = 512

# How long a job may run ---------------------------------------------------------------------------

#: Async and process handlers: what runs for minutes is nearly always stuck; those who mean it say so.
TIMEOUT_ASYNC_S: Final = 300.0
#: Thread handlers cannot be stopped, so a timeout would promise what nobody can keep: none (0).
TIMEOUT_THREAD_S: Final = 0.0
#: From then on a thread handler is warned about, since no timeout will end it.
THREAD_STUCK_WARNING_S: Final = 30.0
#: A year: longer is a mistake in the unit.
TIMEOUT_MAX_S: Final = 365.0 * _DAY_S

# Leases and deliveries ----------------------------------------------------------------------------

#: A crashed worker's jobs wait this long; a worker renews at a third, so two lost renewals are survived.
LEASE_S: Final = 30.0
#: A third of it must be longer than one slow round trip to the server.
LEASE_MIN_S: Final = 0.5
#: A crashed worker's jobs would wait longer than anybody watches.
LEASE_MAX_S: Final = float(_HOUR_S)
#: Starts without an outcome before a job counts as poison: enough for a bad deploy, few enough to spare the fleet.
MAX_DELIVERIES: Final = 5
#: Above this many crashes nobody is protected from a poison job.
MAX_DELIVERIES_MAX: Final = 1_000
#: A fetched job that finds no slot in this time goes back, so that an idle worker elsewhere can start it.
PREFETCH_TTL_S: Final = 10.0
#: Less than the time to move a batch there and back would hand jobs round without running them.
PREFETCH_TTL_MIN_S: Final = 0.1
#: An event loop that has not ticked for so long will not recover: the worker ends and its jobs go elsewhere.
STALL_LIMIT_S: Final = 300.0
#: Shorter stalls happen under honest load: a long garbage collection, a swapped-out process.
STALL_LIMIT_MIN_S: Final = 1.0
#: Rolling deploys finish within it: until then a job with an unknown handler waits for a worker that knows it.
UNKNOWN_HANDLER_GRACE_S: Final = float(_HOUR_S)
#: Below the 30 s that Kubernetes and most supervisors give before they kill.
DRAIN_TIMEOUT_S: Final = 25.0
#: The longest that any stage of waiting or keeping may be set to, unless stated otherwise: a year.
PERIOD_MAX_S: Final = 365.0 * _DAY_S

# What is kept -------------------------------------------------------------------------------------

#: Results are fetched within seconds or never; five minutes cover a restart of the one who waits.
RESULT_TTL_S: Final = 300.0
#: A dead letter outlives a holiday.
DEAD_TTL_S: Final = 30.0 * _DAY_S
#: A dead letter that is gone before it can be listed is a silent loss.
DEAD_TTL_MIN_S: Final = 1.0
#: About 100 MB a queue at 1 KiB a dead letter; past it the oldest are exported to the data folder.
MAX_DEAD: Final = 100_000
MAX_DEAD_MAX: Final = 100_000_000
#: Dead letters exported at a time: one fsync for all, and a few milliseconds of the server's time.
DEAD_EXPORT_COUNT: Final = 500
#: Bytes of them; a letter may be as large as a job.
DEAD_EXPORT_BYTES: Final = 4 * _MIB
#: How long one worker exports alone after it was last told of letters: longer than a healthy disk takes for them.
DEAD_CLAIM_S: Final = 10.0

# Sizes and queue bounds ---------------------------------------------------------------------------

#: Larger arguments belong in a store with a reference in the job: they pass through every hop twice.
MAX_PAYLOAD_BYTES: Final = _MIB
#: The same for what handlers return.
MAX_RESULT_BYTES: Final = _MIB
#: A Redis string holds at most 512 MiB; a quarter of it leaves room for the envelope and a batch.
MESSAGE_MAX_BYTES: Final = 128 * _MIB
#: Below it not even an envelope with a short traceback fits.
MESSAGE_MIN_BYTES: Final = _KIB
#: Over ten seconds of work at full speed (about 90,000 jobs/s on one core); 0 for no bound.
MAX_QUEUE_LENGTH: Final = 1_000_000
MAX_QUEUE_LENGTH_MAX: Final = 1_000_000_000
#: A handler's name: figures and events are kept by name, and a producer may send any.
NAME_MAX_CHARS: Final = 1_000
#: What headrace's own counters may add to a job that is tried again, and must not make it too large.
COUNTERS_MAX_BYTES: Final = 128
#: Holds a million jobs of 1 KiB; reached first where jobs are large; 0 for no bound.
MAX_QUEUE_BYTES: Final = _GIB
MAX_QUEUE_BYTES_MAX: Final = 1024 * _GIB
#: Share of the server's maxmemory above which new work is refused: the rest is for settling what is there.
MEMORY_HIGH: Final = 0.8
MEMORY_HIGH_MIN: Final = 0.05
MEMORY_HIGH_MAX: Final = 0.99
#: How long a submission with on_full=wait waits before QueueFull: longer than a deploy of the workers takes.
WAIT_TIMEOUT_S: Final = 60.0
#: An exception's message kept with the job: a screenful; a repr of 10 MB must not reach the server.
ERROR_MESSAGE_MAX_CHARS: Final = 2_000
#: A traceback of about 200 frames; the innermost ones say most.
TRACEBACK_MAX_CHARS: Final = 20_000

# Batches on the hot path --------------------------------------------------------------------------

#: Jobs a submitting call: measured at over 190,000 jobs/s, and under 1 ms of the server's time.
SUBMIT_BATCH_COUNT: Final = 500
#: Bytes of envelopes at which a submitting call is full, however few: some 10 ms of the server's time.
SUBMIT_BATCH_BYTES: Final = 4 * _MIB
#: Due jobs of a queue that one call moves at most: some 2 ms of the server's time.
PROMOTE_BATCH_MAX_COUNT: Final = 250
#: Entries a fetch asks for at most: above it a reply stops getting cheaper per entry, and other clients wait longer.
FETCH_BATCH_MAX_COUNT: Final = 500
#: Entries a settling call: a variadic XACK, and far below the 8,000 at which Lua's unpack fails.
SETTLE_BATCH_MAX_COUNT: Final = 1_000
#: Outcomes waiting to be settled before the fetch pauses: five full batches, a fraction of a second.
SETTLE_BACKLOG_MAX_COUNT: Final = 5_000
#: Jobs fetched and not started, whatever the slots: 20 ms of work at full speed.
PREFETCH_MAX_COUNT: Final = 2_000
#: Bytes of them: half a second of what a local server sends. Large jobs are few a second, so less depth starves nobody.
PREFETCH_MAX_BYTES: Final = 64 * _MIB
#: Jobs that one call of a batch handler takes at most: as many as are settled in one call.
BATCH_MAX_COUNT: Final = 1_000
#: How long a batch handler's job waits for company: a row inserted 50 ms later is still at once to people.
BATCH_LINGER_S: Final = 0.05
#: Longer is a schedule, not company.
BATCH_LINGER_MAX_S: Final = 60.0

# Events -------------------------------------------------------------------------------------------

#: Packed batches that a queue's stream of events keeps at most: hours of a quiet queue.
EVENTS_MAX_COUNT: Final = 10_000
#: Bytes that it keeps, roughly: over half a million events of a busy queue, which is ten seconds at full speed.
EVENTS_MAX_BYTES: Final = 16 * _MIB
#: Events that wait for `on` handlers in a worker; more are dropped and counted, since the pool never waits for them.
EVENT_HANDLERS_BACKLOG_COUNT: Final = 1_000
#: One call of an `on` handler: it runs beside the jobs and should take none of their time.
EVENT_HANDLER_TIMEOUT_S: Final = 30.0
#: Threads of plain `on` handlers that may be left running past their time: nothing can end a thread, and a function
#: that never returns would leave one behind for each event.
EVENT_HANDLERS_LEFT_COUNT: Final = 4

# HTTP ---------------------------------------------------------------------------------------------

#: Only this machine reaches it unless told otherwise.
HTTP_HOST: Final = "127.0.0.1"
HTTP_PORT: Final = 8787
PORT_MAX: Final = 65_535
#: A batch of 500 jobs of 32 KiB; a larger body is refused before it is read.
HTTP_BODY_MAX_BYTES: Final = 16 * _MIB
#: A body is held in memory while it is read.
HTTP_BODY_BOUND_BYTES: Final = _GIB
#: What bodies take that have not ended, over all requests: ten thousand connections could each hold one. At least one
#: of the largest fits, whatever http.body_max is.
HTTP_BODIES_HELD_BYTES: Final = 256 * _MIB
#: How long a body may keep the server waiting, beside its bytes at the rate below. A phone in a tunnel is back by then.
HTTP_BODY_TIMEOUT_S: Final = 20.0
#: A modem of the last century is eight times faster; who drips bytes more slowly does so on purpose, or is gone.
HTTP_BODY_MIN_BYTES_PER_S: Final = 500
#: What is still read of a body whose answer is known, so that the answer arrives: a server that answers while bytes
#: come in resets the connection, or the HTTP/2 stream, and many clients then show the reset and not the answer.
#: Bytes that are dropped as they come cost little; bodies of single requests are at most 16 MiB by default.
HTTP_BODY_UNREAD_BYTES: Final = 32 * _MIB
#: And how long that may take.
HTTP_BODY_UNREAD_S: Final = 2.0
#: Cookies and a proxy's headers take a few KiB; a bearer token 60 bytes.
HTTP_HEADER_MAX_BYTES: Final = 32 * _KIB
#: The least that the server's parser takes.
HTTP_HEADER_MIN_BYTES: Final = 8 * _KIB
HTTP_HEADER_BOUND_BYTES: Final = _MIB
#: Clients with pools give a connection up within 5 s; a header that takes longer is no honest client's.
HTTP_HEADER_TIMEOUT_S: Final = 10.0
#: Longer than HTTP/2 clients keep a connection between two requests, and than most proxies do.
HTTP_IDLE_TIMEOUT_S: Final = 75.0
#: Below it a request over a slow network is cut off in its midst.
HTTP_TIMEOUT_MIN_S: Final = 0.1
#: A peer that has had a day is not coming back.
HTTP_TIMEOUT_MAX_S: Final = float(_DAY_S)
#: An idle connection takes some 10 KiB and a descriptor; a process has fewer descriptors than this where nobody asked
#: for more, and then takes fewer connections.
HTTP_CONNECTIONS_MAX: Final = 10_000
HTTP_CONNECTIONS_BOUND: Final = 1_000_000
#: Descriptors that are left for all else: connections to the broker, files, libraries.
HTTP_DESCRIPTORS_RESERVED_COUNT: Final = 128
#: What the kernel holds ready to be taken; Linux's own bound (somaxconn) is 4,096.
HTTP_ACCEPT_BACKLOG_COUNT: Final = 4_096
#: With every connection in use, one without a request under way makes room after this long: long enough for a client
#: that has just connected to send its first request.
HTTP_IDLE_PRESSED_S: Final = 2.0
#: Requests of one HTTP/2 connection at a time: as many as the standard recommends at least.
HTTP2_STREAMS_MAX: Final = 100
#: What a response may have waiting in the server below for one HTTP/2 request, beside the piece that comes last.
HTTP2_SEND_BUFFER_BYTES: Final = 64 * _KIB
#: A frame's usual size: what an answer over HTTP/2 is cut into, so that it waits where it can be seen and let go.
HTTP2_PIECE_BYTES: Final = 16 * _KIB
#: Up to here an answer over HTTP/2 goes out in one piece: most do, and a hundred of them hold less than a large one.
HTTP2_AT_ONCE_BYTES: Final = 4 * _KIB
#: What answers over HTTP/2 take that their clients have not taken yet, over all connections; as bodies that come in.
HTTP2_UNREAD_BYTES: Final = 256 * _MIB
#: A silent HTTP/2 peer is asked whether it is there, and has as long for its answer: a vanished one is found in 40 s.
HTTP2_PING_INTERVAL_S: Final = 20
#: No bound (0): a batch is submitted while it is read, and takes no more memory for being long; queues have their own.
HTTP_BATCH_MAX_BYTES: Final = 0
HTTP_BATCH_BOUND_BYTES: Final = 1024 * _GIB
#: Event streams at a time: each takes a connection, two coroutines and its buffer.
HTTP_STREAMS_MAX_COUNT: Final = 256
#: Text of events that waits for one client; all clients share it, and one that is slower reads for itself.
HTTP_STREAM_BUFFER_BYTES: Final = _MIB
#: How long a client may leave what it is sent unread: longer than any pause of a network that comes back.
HTTP_STREAM_SEND_TIMEOUT_S: Final = 30.0
#: A comment so often tells client and proxies that a quiet stream lives; proxies give up after 30 to 60 seconds.
HTTP_STREAM_HEARTBEAT_S: Final = 15.0
#: What a client is asked to wait before it connects again.
HTTP_STREAM_RETRY_MS: Final = 2_000

# Files --------------------------------------------------------------------------------------------

#: Records gathered before a write: one thread hop (about 0.2 ms) is then nothing beside the bytes.
FILE_BATCH_BYTES: Final = 64 * _KIB
#: A record waits no longer than this for its batch, so that `tail -f` feels live.
FILE_BATCH_AGE_S: Final = 0.1
#: A file of this size opens in any editor; 0 never rotates by size.
FILE_ROTATE_BYTES: Final = 256 * _MIB
FILE_ROTATE_MAX_BYTES: Final = 1024 * _GIB
#: One file a day; 0 never rotates by age.
FILE_ROTATE_AGE_S: Final = float(_DAY_S)
#: What the fsync policy `interval` means: the most that a power cut may take, as Redis's everysec.
FILE_FSYNC_INTERVAL_S: Final = 1.0
