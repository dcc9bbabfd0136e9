/* Many sockets of one process: read what is there, split it into frames, write what was put. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "appliance.h"
#include "bytes.h"

#define LENGTH 4u          /* bytes of a frame's length word */
#define FRAME_MIN 8u       /* the length word and the header's: what is shorter can be no frame */
#define READ_SIZE 65536u   /* bytes read from a socket before the next one has its turn */
#define TEXT_SHARE 4u      /* this part of the scratch memory is kept for unescaped text */
#define KEEP_MIN 65536u    /* a frame that is announced larger gets its memory as it comes */
#define ALIGN 8u

static ap_connection *connection_of(ap_net *net, uint64_t connection) {
  uint32_t slot = (uint32_t)connection;
  if (slot >= net->capacity) return NULL;
  ap_connection *c = &net->connections[slot];
  return c->fd >= 0 && c->serial == connection >> 32 && !(c->state & AP_CONNECTION_BROKEN) ? c : NULL;
}

static void watch(ap_net *net, ap_connection *c) {
  uint32_t want = (c->state & AP_CONNECTION_PAUSED ? 0 : EPOLLIN) | (c->out_size > c->out_begin ? EPOLLOUT : 0);
  if (want == c->watched) return;
  struct epoll_event event = {.events = want, .data.u64 = (uint64_t)(c - net->connections)};
  epoll_ctl(net->epoll, EPOLL_CTL_MOD, c->fd, &event);
  c->watched = want;
}

void ap_net_prepare(ap_net *net) {
  memset(net->connections, 0, net->capacity * sizeof *net->connections);
  for (uint32_t i = 0; i < net->capacity; i++) {
    net->connections[i].fd = -1;
    net->connections[i].next = i + 1 < net->capacity ? i + 2 : 0;
  }
  net->free_first = net->capacity ? 1 : 0;
}

int ap_net_add(ap_net *net, int fd, uint32_t state, const uint8_t *peer, uint32_t peer_size, uint64_t *connection) {
  if (!net->free_first) return AP_EFULL;
  if (peer_size && peer_size != 8 && peer_size != 20) return AP_EINVAL;
  uint32_t slot = net->free_first - 1;
  ap_connection *c = &net->connections[slot];
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = slot};
  if (epoll_ctl(net->epoll, EPOLL_CTL_ADD, fd, &event)) return AP_EINVAL;
  net->free_first = c->next;
  memset(c, 0, sizeof *c);
  c->fd = fd;
  c->state = state;
  c->watched = EPOLLIN;
  c->received_ns = c->sent_ns = net->now_ns;
  if (!++net->next_serial) net->next_serial = 1;
  c->serial = net->next_serial;
  if (peer_size) memcpy(c->peer, peer, peer_size);
  c->peer_size = peer_size;
  net->open++;
  *connection = (uint64_t)c->serial << 32 | slot;
  return 0;
}

void ap_net_break(ap_net *net, uint32_t slot, uint32_t reason) {
  if (slot >= net->capacity) return;
  ap_connection *c = &net->connections[slot];
  if (c->fd < 0 || c->state & AP_CONNECTION_BROKEN) return;
  c->state |= AP_CONNECTION_BROKEN;
  c->close_reason = reason;
  net->broken[net->broken_count++] = slot;
}

int ap_net_close(ap_net *net, uint32_t slot) {
  if (slot >= net->capacity) return AP_EINVAL;
  ap_connection *c = &net->connections[slot];
  if (c->fd < 0 || c->state & AP_CONNECTION_DIRTY) return AP_EINVAL;
  if (c->in) ap_pool_give(net->pool, c->in, c->in_capacity);
  if (c->out) ap_pool_give(net->pool, c->out, c->out_capacity);
  epoll_ctl(net->epoll, EPOLL_CTL_DEL, c->fd, NULL); /* not left to close: others may hold the file open */
  close(c->fd);
  memset(c, 0, sizeof *c);
  c->fd = -1;
  c->next = net->free_first;
  net->free_first = slot + 1;
  net->open--;
  return 0;
}

int ap_net_wait(ap_net *net, int timeout_ms, uint64_t now_ns) {
  struct epoll_event events[256];
  if (net->event_next < net->event_count) { /* first those that had no turn, or the first ones starve the rest */
    net->now_ns = now_ns;
    return (int)(net->event_count - net->event_next);
  }
  int max = net->events_max < 256 ? (int)net->events_max : 256;
  int n = epoll_wait(net->epoll, events, max, timeout_ms);
  net->now_ns = now_ns;
  net->event_next = 0;
  net->event_count = n > 0 ? (uint32_t)n : 0;
  for (int i = 0; i < n; i++) net->events[i] = (uint64_t)events[i].events << 32 | (uint32_t)events[i].data.u64;
  return n < 0 && errno != EINTR ? AP_EINVAL : (int)net->event_count;
}

static void make_dirty(ap_net *net, ap_connection *c) {
  if (c->state & AP_CONNECTION_DIRTY) return;
  c->state |= AP_CONNECTION_DIRTY;
  c->next = net->dirty;
  net->dirty = (uint32_t)(c - net->connections) + 1;
}

/* Room for `size` more bytes of output, or NULL and the connection ends. */
static uint8_t *out_room(ap_net *net, ap_connection *c, uint64_t size) {
  uint32_t slot = (uint32_t)(c - net->connections);
  uint64_t waiting = c->out_size - c->out_begin;
  if (waiting + size > net->backlog_max) return ap_net_break(net, slot, AP_CLOSE_BACKLOG), NULL;
  if (c->out_size + size <= c->out_capacity) return (uint8_t *)c->out + c->out_size;
  uint32_t capacity = 0;
  uint64_t block = ap_pool_take(net->pool, 2 * waiting + size, &capacity);
  if (!block) block = ap_pool_take(net->pool, waiting + size, &capacity); /* none so large: just what is needed */
  if (!block) return ap_net_break(net, slot, AP_CLOSE_MEMORY), NULL;
  if (waiting) memcpy((void *)block, (uint8_t *)c->out + c->out_begin, waiting);
  if (c->out) ap_pool_give(net->pool, c->out, c->out_capacity);
  c->out = block;
  c->out_capacity = capacity;
  c->out_begin = 0;
  c->out_size = (uint32_t)waiting;
  return (uint8_t *)block + waiting;
}

int ap_net_put(ap_net *net, uint64_t connection, const uint8_t *data, uint64_t size) {
  ap_connection *c = connection_of(net, connection);
  if (!c) return AP_EGONE;
  if (!size) return 0;
  uint8_t *room = out_room(net, c, size);
  if (!room) return AP_EFULL;
  memcpy(room, data, size);
  c->out_size += (uint32_t)size;
  make_dirty(net, c);
  return 0;
}

static void flush_one(ap_net *net, ap_connection *c) {
  while (c->out_begin < c->out_size) {
    ssize_t n = send(c->fd, (uint8_t *)c->out + c->out_begin, c->out_size - c->out_begin, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return ap_net_break(net, (uint32_t)(c - net->connections), AP_CLOSE_ERROR);
    if (n < 0) break;
    c->out_begin += (uint32_t)n;
    c->bytes_out += (uint64_t)n;
    c->sent_ns = net->now_ns;
  }
  if (c->out && c->out_begin == c->out_size) {
    ap_pool_give(net->pool, c->out, c->out_capacity);
    c->out = 0;
    c->out_capacity = c->out_begin = c->out_size = 0;
  }
  if (c->out_size - c->out_begin > net->pause_at)
    c->state |= AP_CONNECTION_PAUSED;
  else if (c->out_size == c->out_begin)
    c->state &= ~(uint32_t)AP_CONNECTION_PAUSED;
  watch(net, c);
}

int ap_net_flush(ap_net *net) {
  int count = 0;
  while (net->dirty) {
    ap_connection *c = &net->connections[net->dirty - 1];
    net->dirty = c->next;
    c->next = 0;
    c->state &= ~(uint32_t)AP_CONNECTION_DIRTY;
    if (c->state & AP_CONNECTION_BROKEN) continue;
    flush_one(net, c);
    count++;
  }
  return count;
}

int ap_net_gather(ap_net *net, uint64_t connection, const uint8_t *head, uint64_t head_size, const uint64_t *slices,
                  uint64_t slice_count) {
  ap_connection *c = connection_of(net, connection);
  if (!c) return AP_EGONE;
  if (c->out_size > c->out_begin) flush_one(net, c);
  if (c->state & AP_CONNECTION_BROKEN) return AP_EGONE;
  struct { uint64_t address, size; } iov[AP_SLICES_MAX + 1]; /* struct iovec */
  if (slice_count > AP_SLICES_MAX) return AP_EINVAL;
  iov[0].address = (uint64_t)head;
  iov[0].size = head_size;
  uint64_t total = head_size;
  for (uint64_t i = 0; i < slice_count; i++) {
    iov[i + 1].address = slices[2 * i];
    iov[i + 1].size = slices[2 * i + 1];
    total += slices[2 * i + 1];
  }
  uint64_t sent = 0;
  if (c->out_size == c->out_begin) {
    struct msghdr message = {.msg_iov = (void *)iov, .msg_iovlen = slice_count + 1};
    ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
      return ap_net_break(net, (uint32_t)(c - net->connections), AP_CLOSE_ERROR), AP_EGONE;
    sent = n > 0 ? (uint64_t)n : 0;
    c->bytes_out += sent;
    c->sent_ns = net->now_ns;
  }
  /* What the socket did not take is the only part that is ever copied. */
  uint8_t *room = sent < total ? out_room(net, c, total - sent) : NULL;
  if (sent < total && !room) return AP_EFULL;
  for (uint64_t i = 0, skip = sent; room && i <= slice_count; i++) {
    uint64_t from = skip < iov[i].size ? skip : iov[i].size;
    room = put_bytes(room, (uint8_t *)iov[i].address + from, iov[i].size - from);
    c->out_size += (uint32_t)(iov[i].size - from);
    skip -= from;
  }
  if (room) make_dirty(net, c);
  return 0;
}

typedef struct { /* one call of ap_net_receive */
  ap_net *net;
  const ap_table *topics, *groups;
  ap_request *out;
  uint64_t count, max;
  uint8_t *text, *text_end;
} Batch;

/* The frame's whole size, 0 when it is not known yet; -1 when no such frame may come. */
static int64_t frame_size(const ap_net *net, const uint8_t *data, uint64_t size) {
  if (size < LENGTH) return 0;
  uint64_t whole = (uint64_t)get32(data) + LENGTH;
  return whole < FRAME_MIN || whole > net->frame_max ? -1 : (int64_t)whole;
}

/* Hands out one whole frame; 0, or the reason to close its connection. */
static uint32_t hand_out(Batch *batch, ap_connection *c, const uint8_t *frame, uint64_t whole) {
  ap_request *request = &batch->out[batch->count];
  memset(request, 0, sizeof *request);
  request->connection = (uint64_t)c->serial << 32 | (uint32_t)(c - batch->net->connections);
  request->frame = (uint64_t)(frame + LENGTH);
  request->frame_size = (uint32_t)(whole - LENGTH);
  c->frames++;
  if (ap_header_scan(request, batch->topics, batch->groups, &batch->text, batch->text_end)) return AP_CLOSE_HEADER;
  batch->count++;
  return 0;
}

/* Bytes to keep for a frame of `whole` bytes, 0: unknown, of which `size` are here. Nobody gets 16 MiB for having
 * sent a length word: the memory doubles with what really came. */
static uint64_t room_for(uint64_t whole, uint64_t size) {
  uint64_t enough = 2 * size > KEEP_MIN ? 2 * size : KEEP_MIN;
  if (!whole) return LENGTH;
  return whole < enough ? whole : enough;
}

/* Keeps the begin of a frame until the rest of it comes. */
static uint32_t keep(ap_net *net, ap_connection *c, const uint8_t *data, uint64_t size, uint64_t whole) {
  uint32_t capacity = 0;
  uint64_t block = ap_pool_take(net->pool, room_for(whole, size), &capacity);
  if (!block) return AP_CLOSE_MEMORY;
  memcpy((void *)block, data, size);
  c->in = block;
  c->in_capacity = capacity;
  c->in_size = (uint32_t)size;
  return 0;
}

static uint32_t split(Batch *batch, ap_connection *c, const uint8_t *data, uint64_t size) {
  while (size) {
    int64_t whole = frame_size(batch->net, data, size);
    if (whole < 0) return AP_CLOSE_LENGTH;
    if (!whole || (uint64_t)whole > size) return keep(batch->net, c, data, size, (uint64_t)whole);
    uint32_t reason = hand_out(batch, c, data, (uint64_t)whole);
    if (reason) return reason;
    data += whole;
    size -= (uint64_t)whole;
  }
  return 0;
}

/* Reads into `to`; bytes, 0 when there are none now, and *reason when the connection ended. */
static uint64_t read_some(ap_net *net, ap_connection *c, uint8_t *to, uint64_t size, uint32_t *reason) {
  ssize_t n = recv(c->fd, to, size, MSG_DONTWAIT);
  if (n > 0) {
    c->received_ns = net->now_ns;
    c->bytes_in += (uint64_t)n;
    return (uint64_t)n;
  }
  if (n == 0) *reason = AP_CLOSE_PEER;
  else if (errno != EAGAIN && errno != EINTR) *reason = AP_CLOSE_ERROR;
  return 0;
}

/* Goes on with a frame that is half here; 1 when it was completed and handed out. */
static int complete(Batch *batch, ap_connection *c, uint32_t *reason) {
  ap_net *net = batch->net;
  int64_t whole = frame_size(net, (uint8_t *)c->in, c->in_size);
  uint64_t want = whole > 0 ? (uint64_t)whole : LENGTH;
  if (whole > 0 && room_for(want, c->in_size) > c->in_capacity) {
    uint64_t old = c->in;
    uint32_t old_capacity = c->in_capacity;
    *reason = keep(net, c, (uint8_t *)old, c->in_size, want);
    if (*reason) return 0;
    ap_pool_give(net->pool, old, old_capacity);
  }
  uint64_t room = (want < c->in_capacity ? want : c->in_capacity) - c->in_size;
  c->in_size += (uint32_t)read_some(net, c, (uint8_t *)c->in + c->in_size, room, reason);
  if (*reason || c->in_size < want) return 0;
  if (whole == 0) { /* only the length word was missing */
    if (frame_size(net, (uint8_t *)c->in, c->in_size) < 0) *reason = AP_CLOSE_LENGTH;
    return 0;
  }
  net->spent[2 * net->spent_count] = c->in;
  net->spent[2 * net->spent_count++ + 1] = c->in_capacity;
  uint8_t *frame = (uint8_t *)c->in;
  c->in = 0;
  c->in_capacity = c->in_size = 0;
  *reason = hand_out(batch, c, frame, want);
  return *reason == 0;
}

static void read_one(Batch *batch, ap_connection *c) {
  ap_net *net = batch->net;
  uint32_t reason = 0;
  if (c->in && !complete(batch, c, &reason)) {
    if (reason) ap_net_break(net, (uint32_t)(c - net->connections), reason);
    return; /* level-triggered: what is left comes with the next wait */
  }
  uint8_t *to = net->scratch + net->scratch_used;
  uint64_t frames_max = batch->max - batch->count, room = READ_SIZE; /* which ap_net_receive has seen to be there */
  if (frames_max < READ_SIZE / FRAME_MIN) room = frames_max * FRAME_MIN;
  uint64_t size = room ? read_some(net, c, to, room, &reason) : 0;
  net->scratch_used += (size + ALIGN - 1) / ALIGN * ALIGN;
  if (size && !reason) reason = split(batch, c, to, size);
  if (reason) ap_net_break(net, (uint32_t)(c - net->connections), reason);
}

static void give_back_spent(ap_net *net) {
  for (uint32_t i = 0; i < net->spent_count; i++)
    ap_pool_give(net->pool, net->spent[2 * i], (uint32_t)net->spent[2 * i + 1]);
  net->spent_count = 0;
  net->scratch_used = 0;
}

static void serve_event(Batch *batch, uint64_t event) {
  ap_net *net = batch->net;
  uint32_t slot = (uint32_t)event, mask = (uint32_t)(event >> 32);
  if (slot >= net->capacity) return;
  ap_connection *c = &net->connections[slot];
  if (c->fd < 0 || c->state & AP_CONNECTION_BROKEN) return;
  if (c->state & AP_CONNECTION_LISTENER) {
    net->listeners_ready++;
  } else if (c->state & AP_CONNECTION_DOORBELL) {
    uint64_t rings;
    if (read(c->fd, &rings, sizeof rings) > 0) net->doorbell_rung++;
  } else {
    if (mask & EPOLLOUT) make_dirty(net, c);
    if (mask & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
      if (!(c->state & AP_CONNECTION_PAUSED)) read_one(batch, c);
      else if (mask & (EPOLLHUP | EPOLLERR)) ap_net_break(net, slot, AP_CLOSE_ERROR);
    }
  }
}

int64_t ap_net_receive(ap_net *net, const ap_table *topics, const ap_table *groups, ap_request *out, uint64_t max) {
  uint64_t share = (net->scratch_size - net->scratch_size / TEXT_SHARE) / ALIGN * ALIGN;
  Batch batch = {net, topics, groups, out, 0, max, net->scratch + share, net->scratch + net->scratch_size};
  give_back_spent(net);
  while (net->event_next < net->event_count) {
    if (share < net->scratch_used + READ_SIZE || batch.count == max) break;
    serve_event(&batch, net->events[net->event_next++]);
  }
  return (int64_t)batch.count;
}
