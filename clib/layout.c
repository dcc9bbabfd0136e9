/* Sizes that must not drift: shared memory outlives the process that wrote it. */
#include <stddef.h>
#include <stdint.h>

#include "appliance.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bytes.h and the CRC swap and slice for this order");

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " is not " #bytes " bytes")
#define AT(type, field, bytes) _Static_assert(offsetof(type, field) == (bytes), #type "." #field)

SIZE(ap_region, 64);
SIZE(ap_ring, 384);
AT(ap_ring, head, 128);
AT(ap_ring, tail, 256);
SIZE(ap_send, 128);
SIZE(ap_done, 48);
SIZE(ap_frame, 96);
SIZE(ap_watermarks, 448);
SIZE(ap_journal, 64);
SIZE(ap_process, 128);
SIZE(ap_table, 128);
SIZE(ap_row_name, 272);
SIZE(ap_topic, 304);
SIZE(ap_group, 304);
SIZE(ap_subscription, 256);
SIZE(ap_offset, 16);
SIZE(ap_queue_place, 16);
SIZE(ap_queue, 32);
SIZE(ap_connection, 192);
SIZE(ap_request, 256);
SIZE(ap_properties, 40);
SIZE(ap_row, 40);
SIZE(ap_record, 128);
SIZE(ap_flush, 128);
