#pragma once

#define EVENT_WEIGHT 2
