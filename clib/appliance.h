/* The whole contract between the C helper and Python: every shared struct, every function.
 *
 * cffi reads this file as it stands, so it holds constants, structs and prototypes only; a C file includes
 * <stdint.h> and <stddef.h> before it. Sizes are asserted in layout.c. Integers in shared memory are in the
 * machine's order; everything that goes to the wire or to a store file is big-endian and written by C.
 *
 * Return values: a count, a row or a position; a negative AP_E… code when nothing was done.
 */

#define AP_MAGIC 0x4150504C49414E43
#define AP_VERSION 1

#define AP_EINVAL -1 /* an argument or a length in the data is impossible */
#define AP_EFULL -2  /* no room: ring, table, pool or backlog */
#define AP_EMAP -3   /* the log file that is needed is not mapped */
#define AP_EGONE -4  /* the connection is no longer there */
#define AP_EBIND -5  /* a queue row has to be bound first, or an entry asks for that */

#define AP_NAME_MAX 255
#define AP_CODES_MAX 52
#define AP_SLICES_MAX 1000 /* of one answer; below the system's IOV_MAX */
#define AP_REMARK_MAX 250

/* ------------------------------------------------------------------ regions and rings (ring.c) */

typedef struct { /* the head of every region; 64 bytes */
  uint64_t magic;
  uint32_t version;
  uint32_t kind;
  uint64_t size;
  uint64_t generation;
  uint64_t owner_pid;
  uint64_t reserved[3];
} ap_region;

typedef struct { /* the head of a ring: cursors alone on two cache lines each; 384 bytes */
  ap_region region;
  uint64_t capacity;   /* entries, a power of two */
  uint64_t entry_size; /* bytes */
  uint64_t arena_size; /* bytes, a power of two, or 0 */
  uint64_t reserved[5];
  uint64_t head; /* producer: entries before it are published */
  uint64_t head_pad[15];
  uint64_t tail; /* consumer: entries before it are done with */
  uint64_t tail_pad[15];
} ap_ring;

typedef struct { /* frontend, coordinator or replicator → writer; 128 bytes */
  uint64_t sequence;  /* position of this entry in its ring */
  uint64_t arena_at;  /* linear arena position of the first record */
  uint32_t arena_size; /* bytes taken in the arena: records, then what the rows of a batch need */
  uint32_t record_size; /* bytes of all records */
  uint32_t record_count;
  uint32_t queue_index; /* row of the queue table */
  uint32_t kind;        /* AP_SEND … */
  uint32_t flags;       /* AP_ONEWAY … */
  int64_t tags_code;    /* of a single record */
  uint64_t connection;
  int32_t opaque;
  int32_t code; /* request code */
  uint32_t unique_key_at; /* from the first record's begin; 0: none */
  uint32_t unique_key_size;
  int32_t queue_id;
  uint32_t frontend; /* to whom the coordinator sends the answer */
  uint64_t origin;   /* of a coordinator's entry: which request caused it */
  uint64_t received_ns;
  uint64_t reserved[4];
} ap_send;

typedef struct { /* writer → whoever sent: entry k answers entry k of the send ring; 48 bytes */
  uint64_t sequence;
  int64_t physical_offset; /* of the first record */
  int64_t queue_offset;    /* of the first record */
  int64_t store_timestamp;
  int32_t code; /* response code, 0: stored */
  uint32_t queue_row; /* row of the queue table, followed where the queue had moved */
  uint64_t reserved;
} ap_done;

typedef struct { /* frontend ↔ coordinator; 96 bytes */
  uint64_t sequence;
  uint64_t arena_at;
  uint32_t arena_size;
  uint32_t size;
  uint32_t kind; /* AP_FRAME … */
  uint32_t flags;
  uint64_t connection;
  int64_t values[4];
  uint64_t received_ns;
  uint64_t reserved[2];
} ap_frame;

#define AP_SEND 1
#define AP_BIND 2

#define AP_ONEWAY 1
#define AP_BINARY 2
#define AP_BATCH 4

#define AP_FRAME 1
#define AP_OPENED 2
#define AP_CLOSED 3
#define AP_COMMIT 4
#define AP_RESET 5
#define AP_AGAIN 6
#define AP_CLOSE 7

typedef struct { /* who may be shown what; each alone on its cache line */
  ap_region region;
  uint64_t appended; /* writer: the log holds valid records up to here */
  uint64_t appended_pad[7];
  uint64_t flushed; /* writer: the disk holds them up to here */
  uint64_t flushed_pad[7];
  uint64_t dispatched; /* writer: readers may see them up to here */
  uint64_t dispatched_pad[7];
  uint64_t replicated; /* replicator: the in-sync slaves hold them up to here */
  uint64_t replicated_pad[7];
  uint64_t expired; /* writer: the log begins here */
  uint64_t expired_pad[7];
  uint64_t state; /* writer: 0 starting, 1 serving, 2 the disk failed */
  uint64_t state_pad[7];
} ap_watermarks;

typedef struct { /* the writer's memory of an append under way: redone by its successor; 64 bytes */
  uint64_t open;
  uint64_t ring;
  uint64_t first; /* entries first … last-1 of that ring */
  uint64_t last;
  int64_t log_begin;
  int64_t log_end;
  int64_t store_timestamp;
  uint64_t reserved;
} ap_journal;

typedef struct { /* the writer's own page */
  ap_region region;
  ap_journal journal;
  uint64_t taken[72]; /* per ring: entries before it are in the log */
  uint64_t recovered_abnormal; /* what the last recovery found and did */
  uint64_t recovered_records;
  uint64_t recovered_rows;
  uint64_t recovered_cut; /* bytes */
  uint64_t recovered_damaged; /* places stepped over */
  uint64_t recovered_us;
} ap_writer;

typedef struct { /* the coordinator's own page */
  ap_region region;
  uint64_t appended_origin[96]; /* per frontend: last request whose records went to the writer */
} ap_coordinator;

typedef struct { /* one row a process; 128 bytes */
  uint64_t sleeping; /* the process waits on its doorbell */
  uint64_t sleeping_pad[7];
  uint64_t pid;
  uint64_t generation; /* how often it was started */
  uint64_t ready;
  uint64_t steps;
  uint64_t beat_ns;
  uint64_t parked; /* long polls that wait for `dispatched` here */
  uint64_t reserved[2];
} ap_process;

uint64_t ap_load(const uint64_t *cursor);              /* acquire */
void ap_store(uint64_t *cursor, uint64_t value);       /* release */
void ap_announce_sleep(uint64_t *sleeping);            /* before the last look at the rings */
void ap_awake(uint64_t *sleeping);
int ap_wake(uint64_t *sleeping, int doorbell);         /* 1: it slept and was woken */

/* ------------------------------------------------------------------ shared tables (table.c) */

typedef struct { /* the head of a table of named rows: then slots (u32, row + 1), then rows */
  ap_region region;
  uint64_t rows_max;
  uint64_t row_size;
  uint64_t slots_max; /* a power of two, at least twice rows_max */
  uint64_t count;     /* rows ever used */
  uint64_t version;   /* moves with every change */
  uint64_t reserved[3];
} ap_table;

typedef struct { /* what each named row begins with; 272 bytes */
  uint64_t sequence; /* odd while its writer changes it */
  uint16_t name_size;
  uint16_t alive;
  uint32_t reserved;
  uint8_t name[256];
} ap_row_name;

typedef struct { /* 304 bytes */
  ap_row_name name;
  uint32_t queue_base; /* row of the queue table of queue 0 */
  uint32_t read_queues;
  uint32_t write_queues;
  uint32_t perm;  /* 4 read, 2 write, 1 inherit */
  uint32_t flags; /* AP_TOPIC_… */
  uint32_t system_flag;
  uint64_t reserved;
} ap_topic;

#define AP_TOPIC_SEND 1 /* plain sends need nobody's advice */
#define AP_TOPIC_PULL 2

typedef struct { /* 304 bytes */
  ap_row_name name;
  uint32_t flags; /* AP_GROUP_… */
  uint32_t slow_broker_id;
  uint32_t broker_id;
  uint32_t system_flag;
  uint64_t reserved[2];
} ap_group;

#define AP_GROUP_CONSUME_ENABLE 1
#define AP_GROUP_BROADCAST_ENABLE 2

typedef struct { /* a subscription of (group, topic); 256 bytes */
  uint64_t key;
  uint64_t sequence;
  int64_t version;
  uint32_t kind; /* AP_SUB_…, 0: none */
  uint32_t code_count;
  int32_t codes[AP_CODES_MAX];
  uint64_t reserved[2];
} ap_subscription;

#define AP_SUB_ALL 1
#define AP_SUB_TAGS 2
#define AP_SUB_OTHER 3

typedef struct { /* a consume offset of (group, topic, queue); 16 bytes */
  uint64_t key;
  int64_t offset; /* -1: none */
} ap_offset;

typedef struct { /* where a queue row belongs; 16 bytes; written by the coordinator */
  uint32_t topic_row;
  uint32_t queue_id;
  int32_t moved_to; /* -1: here */
  uint32_t used;
} ap_queue_place;

typedef struct { /* 32 bytes; written by the writer */
  int64_t next; /* the next message's queue offset */
  int64_t max;  /* readers may see rows before it */
  int64_t min;
  int64_t bound; /* 1: the writer has filled this row */
} ap_queue;

/* Row of a name, or -1. */
int64_t ap_table_find(const ap_table *table, const uint8_t *name, uint64_t size);
/* Row that now carries the name (the one it had, or a new one); AP_EFULL. The sequence is left odd: fill the
 * row, then ap_table_commit. */
int64_t ap_table_claim(ap_table *table, const uint8_t *name, uint64_t size);
void ap_table_commit(ap_table *table, uint64_t row, int alive);
/* Copies a row between two equal, even sequences; 1, or 0 when its name is not alive. */
int ap_table_read(const ap_table *table, uint64_t row, void *out, uint64_t size);

/* Tables by a 64-bit key, 0 is no key: open addressing over `count` rows of `row_size` bytes, a power of two. */
int64_t ap_keyed_find(const void *rows, uint64_t count, uint64_t row_size, uint64_t key);
int64_t ap_keyed_claim(void *rows, uint64_t count, uint64_t row_size, uint64_t key);

/* queues[rows[i]].max = values[i], visible after everything written before. */
void ap_queues_publish(ap_queue *queues, const uint32_t *rows, const int64_t *values, uint64_t count);
/* Indexes i with queues[rows[i]].max > offsets[i]; how many. */
int64_t ap_queues_ready(const ap_queue *queues, const uint32_t *rows, const int64_t *offsets, uint64_t count,
                        uint32_t *out);

/* ------------------------------------------------------------------ sockets (socket.c, pool.c) */

typedef struct { /* bytes for what a socket holds half: blocks of 4 KiB << class, handed in whole */
  uint8_t *memory;
  uint64_t size;
  uint64_t used;       /* never carved again below */
  uint64_t free[16];   /* per class: address of the first free block */
  uint64_t taken;      /* bytes in blocks that are out */
} ap_pool;

typedef struct { /* 192 bytes; a slot of the connection table */
  int32_t fd; /* -1: free */
  uint32_t serial;
  uint32_t state;     /* AP_CONNECTION_… bits */
  uint32_t close_reason;
  uint64_t in;        /* block with the begin of a frame */
  uint32_t in_capacity;
  uint32_t in_size;    /* never more than that one frame */
  uint32_t in_reserved;
  uint32_t watched;   /* epoll's mask */
  uint64_t out;       /* block with what the peer has not taken yet */
  uint32_t out_capacity;
  uint32_t out_begin;
  uint32_t out_size;
  uint32_t peer_size;   /* of the address below: 8 or 20, 0 for what is no connection */
  uint64_t received_ns; /* last bytes from the peer */
  uint64_t sent_ns;
  uint8_t peer[20]; /* address, then port in four bytes, as a record's bornHost */
  uint32_t next; /* in the list of dirty, or of free slots: slot + 1, 0 ends it */
  uint64_t frames;
  uint64_t bytes_in;
  uint64_t bytes_out;
  uint64_t reserved[8];
} ap_connection;

#define AP_CONNECTION_DIRTY 1    /* has output of this step */
#define AP_CONNECTION_CLOSING 2  /* reported, not yet closed */
#define AP_CONNECTION_BROKEN 4   /* to be reported as closed */
#define AP_CONNECTION_PAUSED 8   /* not read until its output is taken */
#define AP_CONNECTION_LISTENER 16
#define AP_CONNECTION_DOORBELL 32

#define AP_CLOSE_PEER 1
#define AP_CLOSE_ERROR 2
#define AP_CLOSE_LENGTH 3
#define AP_CLOSE_HEADER 4
#define AP_CLOSE_BACKLOG 5
#define AP_CLOSE_MEMORY 6
#define AP_CLOSE_IDLE 7
#define AP_CLOSE_ASKED 8

typedef struct { /* a process's sockets: one epoll, one connection table, one pool, one place to read into */
  ap_connection *connections;
  uint32_t capacity;
  uint32_t open; /* slots in use */
  int32_t epoll;
  uint32_t next_serial;
  uint8_t *scratch; /* what is read lands here; frames of a batch are looked at where they landed */
  uint64_t scratch_size;
  uint64_t scratch_used;
  ap_pool *pool;
  uint32_t frame_max;   /* bytes of a frame with its length word */
  uint32_t backlog_max; /* unsent bytes of a connection before it is closed */
  uint32_t pause_at;    /* unsent bytes of a connection before it is not read any more */
  uint32_t dirty;       /* first of the list of connections with output, slot + 1 */
  uint64_t *events;     /* epoll's answers: mask << 32 | slot */
  uint32_t events_max;
  uint32_t event_count;
  uint32_t event_next;     /* the first one not looked at yet */
  uint32_t free_first;     /* list of free slots, slot + 1 */
  uint64_t *spent;         /* blocks of the frames of this batch: address, capacity; given back at the next */
  uint32_t spent_count;    /* at most events_max */
  uint32_t listeners_ready;
  uint32_t *broken;        /* slots to be reported; room for `capacity` */
  uint32_t broken_count;
  uint32_t doorbell_rung;
  uint64_t now_ns;
} ap_net;

typedef struct { /* one frame of a batch, with the fields that the hot codes need; 256 bytes */
  uint64_t connection;
  uint64_t frame; /* address of the frame behind its length word */
  uint32_t frame_size;
  uint32_t kind; /* AP_REQUEST_… */
  uint64_t body;
  uint32_t body_size;
  int32_t code;
  int32_t opaque;
  int32_t flag;
  int32_t version;
  uint32_t odd; /* AP_ODD_… bits: why the fast path leaves it alone */
  uint32_t reserved_0;
  uint32_t binary;
  int32_t topic_row; /* -1: unknown */
  int32_t group_row;
  int32_t queue_id;
  int32_t system_flag;
  int64_t queue_offset; /* pull */
  int64_t commit_offset;
  int64_t suspend_ms;
  int64_t subscription_version;
  int64_t born_timestamp; /* send */
  int32_t max_count;      /* pull */
  int32_t user_flag;      /* send */
  int32_t reconsume_times;
  int32_t tags_code;
  uint64_t text; /* address of the properties, or of the subscription, with escapes undone */
  uint32_t text_size;
  uint32_t unique_key_at; /* in the properties */
  uint32_t unique_key_size;
  uint32_t record_count; /* of a batch */
  uint32_t properties_max; /* the longest properties string of a batch item */
  uint32_t wait_false;
  uint64_t topic; /* address of the topic's name in the frame */
  uint32_t topic_size;
  uint32_t tagged;
  uint64_t reserved[9];
} ap_request;

#define AP_REQUEST_OTHER 0
#define AP_REQUEST_SEND 1
#define AP_REQUEST_PULL 2
#define AP_REQUEST_RESPONSE 3

#define AP_ODD_FIELD 1     /* a field is missing, of a strange form, or repeated */
#define AP_ODD_PROPERTY 2  /* a property that asks for more than storing */
#define AP_ODD_KEY 4       /* a single message without UNIQ_KEY */
#define AP_ODD_BATCH 8     /* the batch does not add up */
#define AP_ODD_TEXT 16     /* no room to unescape it now */
#define AP_ODD_FILTER 32   /* not a TAG expression */

void ap_net_prepare(ap_net *net); /* all slots free */
int ap_net_add(ap_net *net, int fd, uint32_t state, const uint8_t *peer, uint32_t peer_size, uint64_t *connection);
int ap_net_wait(ap_net *net, int timeout_ms, uint64_t now_ns);
/* Reads what is ready, up to `max` frames, and scans them. The frames stay where they are until the next call.
 * What found no room is served first by the next call: ap_net_wait asks for more only when all had their turn. */
int64_t ap_net_receive(ap_net *net, const ap_table *topics, const ap_table *groups, ap_request *out, uint64_t max);
/* Appends to a connection's output; it leaves with ap_net_flush. AP_EGONE, AP_EFULL (and the connection ends). */
int ap_net_put(ap_net *net, uint64_t connection, const uint8_t *data, uint64_t size);
int ap_net_flush(ap_net *net);
/* Sends `head` and slices (address, size) of mapped files at once; copies only what the socket does not take. */
int ap_net_gather(ap_net *net, uint64_t connection, const uint8_t *head, uint64_t head_size, const uint64_t *slices,
                  uint64_t slice_count);
/* Marks a connection as ended: it is in `broken` until ap_net_close frees its slot and closes its socket. */
void ap_net_break(ap_net *net, uint32_t slot, uint32_t reason);
int ap_net_close(ap_net *net, uint32_t slot);
uint64_t ap_pool_take(ap_pool *pool, uint64_t size, uint32_t *capacity); /* address, 0: none left */
void ap_pool_give(ap_pool *pool, uint64_t address, uint32_t capacity);

/* ------------------------------------------------------------------ headers (header.c) */

/* Scans the header at request->frame; fills the rest of the request, which is zeroed but for connection, frame and
 * frame_size. Unescaped text goes to `text` (moved on). AP_EINVAL: the connection cannot be used any more. A header
 * that only the tolerant reader understands is AP_REQUEST_OTHER, odd, of code 0 and one-way: nobody answers a guess. */
int ap_header_scan(ap_request *request, const ap_table *topics, const ap_table *groups, uint8_t **text,
                   const uint8_t *text_end);

typedef struct { /* what a properties string says about its message; 40 bytes */
  uint32_t odd; /* AP_ODD_PROPERTY: it asks for more than storing */
  uint32_t wait_false;
  uint32_t tagged;
  int32_t tags_code;
  uint32_t unique_key_at;
  uint32_t unique_key_size;
  uint32_t unended; /* the last pair lacks its 0x02 */
  uint32_t reserved;
  int64_t delay_level;
} ap_properties;

void ap_properties_scan(const uint8_t *text, uint64_t size, ap_properties *out);
/* Looks through a send's properties and batch items; sets text_…, record_count and what is odd. */
void ap_request_measure(ap_request *request);

/* ------------------------------------------------------------------ records (measure.c, record.c, walk.c) */

typedef struct { /* what every record of this broker has in common */
  uint8_t store_host[20];
  uint32_t store_host_size; /* 8 or 20, with the port */
  uint32_t suffix_size;
  uint8_t suffix[256]; /* properties that each stored message carries: MSG_REGION, TRACE_ON, CLUSTER */
  uint8_t region[128]; /* extFields of each send answer, as JSON text: "MSG_REGION":"…","TRACE_ON":"…" */
  uint32_t region_size;
  uint32_t message_max;
} ap_build;

typedef struct { /* a record to be written to its queue; 40 bytes */
  int64_t physical_offset;
  int64_t tags_code;
  int64_t queue_offset;
  int32_t size;
  uint32_t slot;      /* of the queue in the writer's QueueSet; filled in by the writer */
  uint32_t queue_row; /* row of the queue table */
  uint32_t reserved;
} ap_row;

typedef struct { /* what a walk along the log finds; 128 bytes */
  int64_t physical_offset; /* where it stands */
  int64_t record_offset;   /* where it says it stands */
  int32_t size;
  int32_t status; /* AP_WALK_… */
  int32_t queue_id;
  int32_t system_flag;
  int64_t queue_offset;
  int64_t store_timestamp;
  int64_t tags_code;
  int64_t delay_level; /* property DELAY, 0: none */
  uint64_t topic_hash;
  uint32_t topic_at; /* from the record's begin */
  uint32_t topic_size;
  uint32_t properties_at;
  uint32_t properties_size;
  uint32_t body_at;
  uint32_t body_size;
  uint32_t unique_key_at;
  uint32_t unique_key_size;
  uint64_t reserved[3];
} ap_record;

#define AP_WALK_MESSAGE 0
#define AP_WALK_BLANK 1
#define AP_WALK_END 2
#define AP_WALK_MAGIC 3
#define AP_WALK_LENGTH 4
#define AP_WALK_CRC 5

/* Sorts a batch: which requests are plain sends, and the queue rows they go to; everything else, in order, is
 * `others`. Plain: nothing odd, a topic that takes plain sends, a queue that it has, lengths in bounds. How many
 * were chosen. */
int64_t ap_send_choose(const ap_request *requests, uint64_t count, const ap_table *topics, const ap_build *build,
                       uint32_t *chosen, uint32_t *queue_rows, uint32_t *others, uint64_t *other_count);
/* Builds the records of requests[chosen[i]] in the ring's arena and fills its entries from `head` on (nothing is
 * published). `arena_head` is moved on; space ends at `arena_limit` and entries at `entry_limit`. Returns how
 * many were built; fewer than asked when the ring is full. AP_EINVAL: a request is odd, or fits into no record. */
int64_t ap_send_build(const ap_net *net, const ap_request *requests, const uint32_t *chosen, uint64_t count,
                      const ap_build *build, ap_ring *ring, uint64_t head, uint64_t entry_limit,
                      uint64_t *arena_head, uint64_t arena_limit, const uint32_t *queue_indexes);
/* Answers entries first … last-1 of the ring; skips positions below `seen` (repeats). */
int64_t ap_send_answer(ap_net *net, const ap_build *build, const ap_ring *ring, const ap_ring *done, uint64_t first,
                       uint64_t last);
/* A response without a body to one request, as JSON; `remark` may be NULL, has AP_REMARK_MAX bytes at most. */
int ap_answer_code(ap_net *net, uint64_t connection, int32_t opaque, int32_t code, const char *remark);
/* Copies the records of entries first … last-1 to the log and stamps them from `done`. All of them lie in
 * [file_begin, file_begin + file_size). Bytes, or AP_EINVAL where their lengths do not add up. */
int64_t ap_append(const ap_ring *ring, const ap_ring *done, uint64_t first, uint64_t last, uint8_t *file,
                  int64_t file_begin, uint64_t file_size);

typedef struct { /* where an append begins and what it may take */
  int64_t begin;      /* physical offset of the first record */
  int64_t room;       /* bytes that the file has left for records */
  int64_t timestamp;  /* storeTimestamp of all of them */
  int64_t end;        /* filled in: physical offset behind the last one */
  int64_t missing;    /* filled in with AP_EBIND: the queue row that is not bound, -1: the entry asks */
} ap_extent;

/* Gives offsets to entries first … last-1 as far as they fit, in their unpublished answers. `following` is the
 * writer's own next queue offset of each row, -1: not bound; rows that moved are followed. How many entries fit,
 * at least one; AP_EFULL when not even one does; AP_EBIND. */
int64_t ap_assign(const ap_ring *ring, ap_ring *done, uint64_t first, uint64_t last, const ap_queue_place *places,
                  int64_t *following, ap_extent *extent);
/* Moves the queues' `next` behind entries first … last-1; doing it twice changes nothing. */
void ap_advance(const ap_ring *ring, const ap_ring *done, uint64_t first, uint64_t last, ap_queue *queues);
/* One row a record of entries first … last-1 that were stored; `slots` by queue row. How many,
 * AP_EFULL, or AP_EINVAL as for ap_append. */
int64_t ap_rows_expand(const ap_ring *ring, const ap_ring *done, uint64_t first, uint64_t last, const int32_t *slots,
                       ap_row *out, uint64_t max);
void ap_rows_write(const ap_row *rows, const uint64_t *addresses, uint64_t count);

typedef struct { /* columns of the writer's QueueSet, by slot; see commitlog/queue_set.py */
  int64_t *next_offset;
  int64_t *max_physical;
  const uint64_t *address; /* of the queue's current file, 0: none is mapped */
  const int64_t *first_row;
  const int64_t *end_row;
  int64_t *used;
  uint8_t *dirty;
} ap_slots;

/* Writes the rows, from the first on, that simply follow in the current files of their queues; how many. */
int64_t ap_rows_follow(const ap_slots *slots, const ap_row *rows, uint64_t count, int64_t tick);
/* Lets readers see the rows: queues[row].max moves behind each, after everything written before. */
void ap_rows_show(ap_queue *queues, const ap_row *rows, uint64_t count);
int64_t ap_walk(const uint8_t *address, uint64_t size, int64_t base_offset, int check_crc, ap_record *out, uint64_t max);
uint32_t ap_crc32(const uint8_t *data, uint64_t size);
int32_t ap_tags_code(const uint8_t *text, uint64_t size); /* Java's String.hashCode of UTF-8 text */

/* ------------------------------------------------------------------ pulls (pull.c) */

typedef struct { /* the mapped files of the log, by number; 32 bytes + one address each */
  int64_t first_offset;
  uint64_t file_size;
  uint64_t count;
  uint64_t *addresses; /* 0: not mapped, AP_GONE: there is no such file any more */
} ap_log;

#define AP_GONE 1

typedef struct {
  uint32_t examined; /* rows looked at */
  uint32_t matched;
  uint32_t bytes;
  int32_t status;      /* 0, AP_EMAP: file `missing` has to be mapped first */
  int64_t missing;
  int64_t last_offset; /* physical offset of the last row looked at */
  uint64_t removed;    /* not 0: of the rows that gave nothing, the last had its record no longer in the log */
} ap_found;

typedef struct {
  uint32_t max_count;
  uint32_t max_bytes;
  uint32_t code_count;
  uint32_t max_examined;
  int64_t memory_begin; /* records from here on are taken to be in memory */
  int64_t log_begin;
  int64_t log_end;
  uint32_t every_tag; /* else those of `codes` */
  uint32_t reserved;
  int32_t codes[AP_CODES_MAX];
} ap_filter;

/* Walks `count` ConsumeQueue units, fills slices (address, size: struct iovec) of the records that match; how many. */
int ap_pull_rows(const uint8_t *units, uint64_t count, const ap_log *log, const ap_filter *filter, uint64_t *slices,
                 uint64_t slices_max, ap_found *found);

typedef struct { /* the answer's header */
  int32_t code;
  int32_t opaque;
  int64_t next_offset;
  int64_t min_offset;
  int64_t max_offset;
  int64_t broker_id;
  int32_t topic_flag;
  int32_t group_flag;
} ap_pulled;

int ap_pull_answer(ap_net *net, uint64_t connection, const ap_pulled *pulled, const char *remark,
                   const uint64_t *slices, uint64_t slice_count);

/* ------------------------------------------------------------------ disk (disk.c) */

typedef struct { /* the mailbox of the flush thread; 128 bytes */
  uint64_t asked; /* number of the last request */
  int32_t fd;
  int32_t stop;
  uint64_t asked_pad[6];
  uint64_t finished; /* number of the last one that ended */
  int32_t error;     /* errno of that one, 0: on disk */
  int32_t reserved;
  uint64_t took_ns;
  uint64_t finished_pad[5];
} ap_flush;

/* Serves the mailbox until `stop`: waits on `bell`, syncs the file, rings `done_bell`. Called without the GIL. */
void ap_flush_serve(ap_flush *box, int bell, int done_bell);
int ap_flush_ask(ap_flush *box, int fd, int bell);
/* Touches every page of a mapped file that is about to be written (MADV_POPULATE_WRITE where there is one). */
int ap_populate(uint8_t *address, uint64_t size);
int ap_name_process(const char *name, int death_signal);
