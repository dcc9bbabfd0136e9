/* rmqload: a load generator for any broker that speaks the RocketMQ remoting protocol.
 *
 * Runs in: `make bench`. One thread, one epoll loop, pre-encoded requests: it costs about 1 to 2
 *          microseconds a message, so that on a two-core machine the broker is what is measured.
 * Owns:    the topic that it is given.
 * Fails:   exit code 2 when the broker goes away; 1 when a request failed.
 *
 *   rmqload produce  -t TOPIC [-c conns] [-w window] [-s bytes] [-d secs] [-n msgs] [-q queues]
 *                    [-r rate] [-b batch]
 *   rmqload consume  -t TOPIC [-q queues] [-d secs] [-n msgs] [-B maxNums]
 *   rmqload e2e      -t TOPIC [-r rate] [-s bytes] [-d secs] [-q queues]
 *   all of them      -h host -p port -P pid[,pid..]
 *
 *   window: requests in flight per connection; rate: messages per second over all, 0 is unlimited;
 *   consume reads every queue from offset 0; e2e produces at a rate, consumes by long polling and
 *   times each message; -P names processes whose CPU and memory, descendants included, is counted.
 *
 * Prints one JSON object on standard output. Latencies are in microseconds, from the write of a
 * request to the read of its response (produce), or to the arrival of the message (e2e).
 * With -r, latency counts from the intended send time, so that a stall is not hidden. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "measure.h"

#define MAXC 4096
#define MAXW 65536
enum { PULL = 11, TOPIC_CREATE = 17, MAXOFF = 30, SEND_V2 = 310, SEND_BATCH = 320 };

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static uint64_t wall_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec * 1000ull + t.tv_nsec / 1000000;
}

static void die(const char *m) {
  fprintf(stderr, "rmqload: %s: %s\n", m, strerror(errno));
  exit(2);
}

typedef struct {
  int fd;
  char *in;
  size_t ilen, icap;
  char *out;
  size_t olen, ooff, ocap;
  uint32_t opq, inflight;
  uint64_t *ts;
  int q;
  uint64_t off;
  int pulling;
  uint32_t watch;
} Conn;
static Conn C[MAXC];
static int nc = 8, W = 64, queues = 4, batch = 1, maxnums = 32;
static size_t body = 128;
static double secs = 10, rate = 0;
static uint64_t nmsgs = 0;
static const char *host = "127.0.0.1", *topic = "BenchTopic";
static int port = 10911;
static int ep;
static uint64_t sent, acked, errors, got, gotbytes, flowctl;
static char *payload;

static void put(Conn *c, const void *p, size_t n) {
  if (c->olen + n > c->ocap) {
    if (c->ooff) {
      memmove(c->out, c->out + c->ooff, c->olen - c->ooff);
      c->olen -= c->ooff;
      c->ooff = 0;
    }
    while (c->olen + n > c->ocap) {
      c->ocap = c->ocap ? c->ocap * 2 : 1 << 16;
      c->out = realloc(c->out, c->ocap);
    }
  }
  memcpy(c->out + c->olen, p, n);
  c->olen += n;
}

static void flushc(Conn *c) {
  while (c->ooff < c->olen) {
    ssize_t n = send(c->fd, c->out + c->ooff, c->olen - c->ooff, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EAGAIN) break;
      die("send");
    }
    c->ooff += n;
  }
  if (c->ooff == c->olen) c->ooff = c->olen = 0;
  uint32_t want = EPOLLIN | (c->olen ? EPOLLOUT : 0);
  if (want != c->watch) {
    struct epoll_event ev = {.events = want, .data.ptr = c};
    epoll_ctl(ep, c->watch ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &ev);
    c->watch = want;
  }
}

static void frame(Conn *c, int code, uint32_t opq, const char *ext, const void *b, size_t bn) {
  char h[1024];
  int hn = snprintf(h, sizeof h,
                    "{\"code\":%d,\"extFields\":{%s},\"flag\":0,\"language\":\"JAVA\",\"opaque\":%"
                    "u,\"serializeTypeCurrentRPC\":\"JSON\",\"version\":475}",
                    code, ext, opq);
  uint32_t l[2] = {htonl(4 + hn + bn), htonl(hn)};
  put(c, l, 8);
  put(c, h, hn);
  if (bn) put(c, b, bn);
}

static void send_one(Conn *c, uint64_t intended) {
  char ext[700];
  int q = c->q;
  c->q = (c->q + 1) % queues;
  if (batch > 1) {
    static char *bb;
    static size_t bl;
    static size_t one;
    if (!bb) {
      char props[] = "WAIT\001true\002";
      one = 4 + 4 + 4 + 4 + 4 + body + 2 + sizeof props - 1;
      bl = one * batch;
      bb = malloc(bl);
      for (int i = 0; i < batch; i++) {
        char *p = bb + i * one;
        uint32_t v;
        v = htonl(one);
        memcpy(p, &v, 4);
        memset(p + 4, 0, 12);
        v = htonl(body);
        memcpy(p + 16, &v, 4);
        memcpy(p + 20, payload, body);
        uint16_t s = htons(sizeof props - 1);
        memcpy(p + 20 + body, &s, 2);
        memcpy(p + 22 + body, props, sizeof props - 1);
      }
    }
    snprintf(ext, sizeof ext,
             "\"a\":\"rmqload\",\"b\":\"%s\",\"c\":\"TBW102\",\"d\":\"4\",\"e\":\"%d\",\"f\":\"0\","
             "\"g\":\"%lu\",\"h\":\"0\",\"i\":\"WAIT\\u0001true\\u0002\",\"j\":\"0\",\"k\":"
             "\"false\",\"m\":\"true\"",
             topic, q, wall_ms());
    frame(c, SEND_BATCH, c->opq, ext, bb, bl);
  } else {
    static uint64_t seq;
    memcpy(payload, &intended, 8);
    snprintf(ext, sizeof ext,
             "\"a\":\"rmqload\",\"b\":\"%s\",\"c\":\"TBW102\",\"d\":\"4\",\"e\":\"%d\",\"f\":\"0\","
             "\"g\":\"%lu\",\"h\":\"0\",\"i\":\"UNIQ_KEY\\u0001%"
             "032lX\\u0002WAIT\\u0001true\\u0002TAGS\\u0001TagA\",\"j\":\"0\",\"k\":\"false\","
             "\"m\":\"false\"",
             topic, q, wall_ms(), seq++);
    frame(c, SEND_V2, c->opq, ext, payload, body);
  }
  c->ts[c->opq % MAXW] = intended;
  c->opq++;
  c->inflight++;
  sent += batch;
}

static void pull(Conn *c, int hold_ms) {
  char ext[500];
  snprintf(
      ext, sizeof ext,
      "\"consumerGroup\":\"rmqload_c\",\"topic\":\"%s\",\"queueId\":\"%d\",\"queueOffset\":\"%lu\","
      "\"maxMsgNums\":\"%d\",\"sysFlag\":\"%d\",\"commitOffset\":\"0\",\"suspendTimeoutMillis\":\"%"
      "d\",\"subscription\":\"*\",\"subVersion\":\"0\",\"expressionType\":\"TAG\"",
      topic, c->q, c->off, maxnums, hold_ms ? 6 : 4, hold_ms);
  frame(c, PULL, c->opq++, ext, NULL, 0);
  c->pulling = 1;
}

static long jnum(const char *h, size_t n, const char *key) {
  const char *p = memmem(h, n, key, strlen(key));
  if (!p) return -1;
  p += strlen(key);
  while (*p == '"' || *p == ':' || *p == ' ') p++;
  return strtol(p, NULL, 10);
}

static int connect1(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, host, &a.sin_addr);
  if (connect(fd, (void *)&a, sizeof a)) die("connect");
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

static void rdall(int fd, void *p, size_t n) {
  char *q = p;
  while (n) {
    ssize_t k = read(fd, q, n);
    if (k <= 0) die("read");
    q += k;
    n -= k;
  }
}

/* blocking request on a fresh connection; returns code */
static long simple(int code, const char *ext, long *off) {
  Conn c = {0};
  c.fd = connect1();
  frame(&c, code, 1, ext, NULL, 0);
  if (write(c.fd, c.out, c.olen) < 0) die("write");
  uint32_t l;
  rdall(c.fd, &l, 4);
  l = ntohl(l);
  char *b = malloc(l + 1);
  rdall(c.fd, b, l);
  b[l] = 0;
  uint32_t hl;
  memcpy(&hl, b, 4);
  hl = ntohl(hl) & 0xffffff;
  long r = jnum(b + 4, hl, "\"code\":");
  if (off) *off = jnum(b + 4, hl, "\"offset\":");
  close(c.fd);
  free(b);
  free(c.out);
  return r;
}

static void on_frame(Conn *c, char *p, uint32_t len, int producing, int e2e) {
  uint32_t hl;
  memcpy(&hl, p, 4);
  hl = ntohl(hl) & 0xffffff;
  char *h = p + 4;
  long code = jnum(h, hl, "\"code\":"), opq = jnum(h, hl, "\"opaque\":");
  if (producing) {
    c->inflight--;
    if (code == 0) {
      acked += batch;
      hrec(now_us() - c->ts[opq % MAXW]);
    } else {
      if (code == 2)
        flowctl += batch;
      else if (!errors++)
        fprintf(stderr, "rmqload: first error: %.*s\n", (int)hl, h);
    }
    return;
  }
  c->pulling = 0;
  char *b = h + hl;
  size_t bn = len - 4 - hl;
  if (code == 0) {
    uint64_t t = now_us();
    while (bn >= 4) {
      uint32_t sz;
      memcpy(&sz, b, 4);
      sz = ntohl(sz);
      if (sz > bn || sz < 88) {
        errors++;
        break;
      }
      if (e2e) {
        uint64_t s;
        uint32_t bl;
        memcpy(&bl, b + 84, 4);
        memcpy(&s, b + 88, 8);
        hrec(t - s);
      }
      got++;
      gotbytes += sz;
      b += sz;
      bn -= sz;
    }
  } else if (code != 19 && code != 20 && code != 21)
    errors++;
  long nb = jnum(h, hl, "\"nextBeginOffset\":");
  if (nb >= 0) c->off = nb;
  if (code != 0 && !e2e) c->pulling = 2; /* queue drained */
}

static void pump(Conn *c, int producing, int e2e) {
  for (;;) {
    if (c->icap - c->ilen < 65536) {
      c->icap = c->icap ? c->icap * 2 : 1 << 18;
      c->in = realloc(c->in, c->icap);
    }
    ssize_t n = read(c->fd, c->in + c->ilen, c->icap - c->ilen);
    if (n == 0) {
      errno = 0;
      die("broker closed the connection");
    }
    if (n < 0) {
      if (errno == EAGAIN) break;
      die("read");
    }
    c->ilen += n;
    size_t o = 0;
    while (c->ilen - o >= 4) {
      uint32_t l;
      memcpy(&l, c->in + o, 4);
      l = ntohl(l);
      if (c->ilen - o - 4 < l) break;
      on_frame(c, c->in + o + 4, l, producing, e2e);
      o += 4 + l;
    }
    memmove(c->in, c->in + o, c->ilen - o);
    c->ilen -= o;
    if ((size_t)n < 65536) break;
  }
}

static int producing, e2e, producers, consumers;

static int options(int argc, char **argv) {
  int o;
  optind = 2;
  while ((o = getopt(argc, argv, "h:p:t:c:w:s:d:n:q:r:b:B:P:")) != -1) switch (o) {
    case 'h': host = optarg; break;
    case 'p': port = atoi(optarg); break;
    case 't': topic = optarg; break;
    case 'c': nc = atoi(optarg); break;
    case 'w': W = atoi(optarg); break;
    case 's': body = atoi(optarg); break;
    case 'd': secs = atof(optarg); break;
    case 'n': nmsgs = atoll(optarg); break;
    case 'q': queues = atoi(optarg); break;
    case 'r': rate = atof(optarg); break;
    case 'b': batch = atoi(optarg); break;
    case 'B': maxnums = atoi(optarg); break;
    case 'P': pidlist = strdup(optarg); break;
    default: return 0;
    }
  producing = !strcmp(argv[1], "produce"), e2e = !strcmp(argv[1], "e2e");
  if (!producing && !e2e && strcmp(argv[1], "consume")) return 0;
  producers = producing ? nc : e2e ? 1 : 0, consumers = producing ? 0 : queues;
  if (body < 8) body = 8;
  if (W > MAXW / 2) W = MAXW / 2;
  return producers + consumers <= MAXC;
}

static void create_topic(void) {
  char ext[500];
  snprintf(ext, sizeof ext,
           "\"topic\":\"%s\",\"defaultTopic\":\"TBW102\",\"readQueueNums\":\"%d\","
           "\"writeQueueNums\":\"%d\",\"perm\":\"6\",\"topicFilterType\":\"SINGLE_TAG\","
           "\"topicSysFlag\":\"0\",\"order\":\"false\"",
           topic, queues, queues);
  long code = simple(TOPIC_CREATE, ext, NULL);
  if (code) fprintf(stderr, "rmqload: create topic: code %ld\n", code);
}

/* Producers stand first in C, consumers behind them, one a queue. */
static void connect_all(void) {
  ep = epoll_create1(0);
  for (int i = 0; i < producers + consumers; i++) {
    Conn *c = &C[i];
    c->fd = connect1();
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->ts = calloc(MAXW, 8);
    c->q = i < producers ? i % queues : i - producers;
    if (e2e && i >= producers) {
      char ext[500];
      snprintf(ext, sizeof ext, "\"topic\":\"%s\",\"queueId\":\"%d\"", topic, c->q);
      long off = 0;
      simple(MAXOFF, ext, &off);
      c->off = off < 0 ? 0 : off;
    }
    flushc(c);
  }
}

static int may_send(void) { return !nmsgs || sent < nmsgs; }

/* Sends what is due; `next` is the intended time of the next message. */
static void produce(uint64_t now, double *next) {
  static int turn;
  if (rate > 0) {
    while (*next <= now && may_send()) {
      Conn *c = &C[turn++ % producers];
      if (c->inflight >= (uint32_t)MAXW / 2) break;
      send_one(c, (uint64_t)*next);
      *next += 1e6 * batch / rate;
    }
  } else {
    for (int i = 0; i < producers; i++)
      while (C[i].inflight < (uint32_t)W && may_send()) send_one(&C[i], now);
  }
}

static int finished(uint64_t now, uint64_t tend, int done_sending) {
  int busy = 0, drained = consumers > 0;
  for (int i = 0; i < producers; i++) busy += C[i].inflight;
  for (int i = producers; i < producers + consumers; i++)
    if (C[i].pulling != 2) drained = 0;
  if (e2e) return done_sending && !busy && (got >= acked || now > tend + 5000000);
  if (!producing) return drained || now >= tend || (nmsgs && got >= nmsgs);
  if (done_sending && busy && now > tend + 30000000) {
    fprintf(stderr, "rmqload: %d requests never answered\n", busy);
    errors += busy;
    return 1;
  }
  return done_sending && !busy;
}

static int serve_events(int timeout_ms) {
  struct epoll_event ev[256];
  int n = epoll_wait(ep, ev, 256, timeout_ms);
  for (int i = 0; i < n; i++) {
    Conn *c = ev[i].data.ptr;
    if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) pump(c, c < C + producers, e2e);
    if (ev[i].events & EPOLLOUT) flushc(c);
  }
  return n;
}

/* The whole run; returns when the last event came. */
static uint64_t drive(uint64_t start) {
  uint64_t tend = start + secs * 1e6, last = start;
  double next = start;
  for (;;) {
    uint64_t now = now_us();
    int done_sending = now >= tend || !may_send();
    if (!done_sending) produce(now, &next);
    for (int i = producers; i < producers + consumers; i++)
      if (!C[i].pulling && !(e2e && done_sending && got >= acked)) pull(&C[i], e2e ? 1000 : 0);
    for (int i = 0; i < producers + consumers; i++)
      if (C[i].olen) flushc(&C[i]);
    if (finished(now, tend, done_sending)) return last;
    int paced = rate > 0 && !done_sending;
    if (serve_events(paced ? next - now_us() > 1500 : 100)) last = now_us();
  }
}

static void print_result(const char *mode, double seconds, double cpu_s, double own, double rss) {
  uint64_t m = producing ? acked : got;
  struct timespec self;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &self);
  double self_cpu = self.tv_sec + self.tv_nsec / 1e9;
  double bytes = producing ? m * (double)body : (double)gotbytes;
  printf("{\"mode\":\"%s\",\"topic\":\"%s\",\"conns\":%d,\"window\":%d,\"batch\":%d,\"body\":%zu,"
         "\"rate\":%.0f,\"secs\":%.3f,\"sent\":%lu,\"acked\":%lu,\"received\":%lu,",
         mode, topic, producers + consumers, W, batch, body, rate, seconds, sent, acked, got);
  printf("\"errors\":%lu,\"flow_control\":%lu,\"msgs_per_s\":%.0f,\"mb_per_s\":%.1f,", errors,
         flowctl, m / seconds, bytes / seconds / 1e6);
  printf("\"p50_us\":%lu,\"p99_us\":%lu,\"p999_us\":%lu,\"max_us\":%lu,", hq(.5), hq(.99), hq(.999),
         Hmax);
  printf("\"broker_cpu_s\":%.2f,\"broker_cpu_us_per_msg\":%.2f,\"broker_rss_mb\":%.1f,"
         "\"broker_own_mb\":%.1f,\"generator_cpu_us_per_msg\":%.2f}\n",
         cpu_s, m ? cpu_s * 1e6 / m : 0, rss, own, m ? self_cpu * 1e6 / m : 0);
}

int main(int argc, char **argv) {
  if (argc < 2 || !options(argc, argv)) {
    fprintf(stderr, "usage: rmqload produce|consume|e2e [options], see the head of rmqload.c\n");
    return 2;
  }
  payload = malloc(body);
  for (size_t i = 0; i < body; i++) payload[i] = 'a' + i * 7 % 26;
  create_topic();
  connect_all();
  double cpu_before, cpu_after, own, rss;
  usage(&cpu_before, &own, &rss);
  uint64_t start = now_us(), last = drive(start);
  usage(&cpu_after, &own, &rss);
  print_result(argv[1], (last - start) / 1e6, cpu_after - cpu_before, own, rss);
  return errors ? 1 : 0;
}
