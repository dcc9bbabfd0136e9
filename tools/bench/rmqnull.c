/* rmqnull: the floor that no broker can go below.
 *
 * Runs in: `make bench`, as `rmqnull PORT`. It reads RocketMQ remoting frames, looks at nothing but
 *          their length, code and opaque, and answers every request with a fixed success. What
 *          rmqload gets from it is what loopback TCP and rmqload itself cost on this machine.
 * Owns:    its port.
 * Fails:   exit code 2 when the port is taken. */
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
#include <unistd.h>

typedef struct {
  int fd;
  char *in, *out;
  size_t ilen, icap, olen, ooff, ocap;
  int watch_out;
} Conn;

static int ep;

static void watch(int fd, Conn *c, int operation, uint32_t events) {
  struct epoll_event ev = {.events = events, .data.ptr = c};
  epoll_ctl(ep, operation, fd, &ev);
}

static void open_connection(int listening) {
  int one = 1, fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
  if (fd < 0) return;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  Conn *c = calloc(1, sizeof *c);
  c->fd = fd;
  watch(fd, c, EPOLL_CTL_ADD, EPOLLIN);
}

static void close_connection(Conn *c) {
  close(c->fd);
  free(c->in);
  free(c->out);
  free(c);
}

/* `header` has `size` bytes. */
static void answer(Conn *c, const char *header, size_t size) {
  char h[512], *opaque = memmem(header, size, "\"opaque\":", 9);
  int hn = snprintf(h, sizeof h,
                    "{\"code\":0,\"extFields\":{\"msgId\":\"7F00000100002A9F0000000000000000\","
                    "\"queueId\":\"0\",\"queueOffset\":\"0\",\"offset\":\"0\"},\"flag\":1,"
                    "\"language\":\"OTHER\",\"opaque\":%ld,"
                    "\"serializeTypeCurrentRPC\":\"JSON\",\"version\":475}",
                    opaque ? strtol(opaque + 9, NULL, 10) : 0);
  if (c->olen + hn + 8 > c->ocap) {
    c->ocap = (c->olen + hn + 8) * 2;
    c->out = realloc(c->out, c->ocap);
  }
  uint32_t words[2] = {htonl(4 + hn), htonl(hn)};
  memcpy(c->out + c->olen, words, 8);
  memcpy(c->out + c->olen + 8, h, hn);
  c->olen += 8 + hn;
}

static void answer_complete_frames(Conn *c) {
  size_t o = 0;
  while (c->ilen - o >= 8) {
    uint32_t total, header;
    memcpy(&total, c->in + o, 4);
    memcpy(&header, c->in + o + 4, 4);
    total = ntohl(total), header = ntohl(header) & 0xffffff;
    if (c->ilen - o - 4 < total) break;
    answer(c, c->in + o + 8, header);
    o += 4 + total;
  }
  memmove(c->in, c->in + o, c->ilen - o);
  c->ilen -= o;
}

/* Both return 0 when the connection is over. */
static int receive(Conn *c) {
  for (;;) {
    if (c->icap - c->ilen < 65536) {
      c->icap = c->icap ? c->icap * 2 : 1 << 18;
      c->in = realloc(c->in, c->icap);
    }
    ssize_t n = read(c->fd, c->in + c->ilen, c->icap - c->ilen);
    if (n == 0 || (n < 0 && errno != EAGAIN)) return 0;
    if (n < 0) return 1;
    c->ilen += n;
    answer_complete_frames(c);
    if (n < 65536) return 1;
  }
}

static int transmit(Conn *c) {
  while (c->ooff < c->olen) {
    ssize_t n = send(c->fd, c->out + c->ooff, c->olen - c->ooff, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return 0;
    if (n < 0) break;
    c->ooff += n;
  }
  if (c->ooff == c->olen) c->ooff = c->olen = 0;
  if (c->watch_out != (c->olen > 0)) {
    c->watch_out = c->olen > 0;
    watch(c->fd, c, EPOLL_CTL_MOD, EPOLLIN | (c->watch_out ? EPOLLOUT : 0));
  }
  return 1;
}

int main(int argc, char **argv) {
  int port = argc > 1 ? atoi(argv[1]) : 10999, one = 1;
  int listening = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in a = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listening, (void *)&a, sizeof a) || listen(listening, 512)) {
    perror("rmqnull");
    return 2;
  }
  ep = epoll_create1(0);
  watch(listening, NULL, EPOLL_CTL_ADD, EPOLLIN);
  for (;;) {
    struct epoll_event events[256];
    int n = epoll_wait(ep, events, 256, -1);
    for (int i = 0; i < n; i++) {
      Conn *c = events[i].data.ptr;
      int readable = events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR);
      if (!c)
        open_connection(listening);
      else if ((readable && !receive(c)) || !transmit(c))
        close_connection(c);
    }
  }
}
