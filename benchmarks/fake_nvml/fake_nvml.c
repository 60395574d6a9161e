/* A libnvidia-ml.so.1 whose GPUs follow a scenario file, so that unmodified programs meet GPUs whose true energy is
 * known in closed form (benchmarks/truth.py is the twin in Python).
 *
 * AIOCARBON_FAKE_NVML      the scenario file; without it nvmlInit says that no driver is loaded
 * AIOCARBON_FAKE_NVML_T0   scenario time zero, in nanoseconds of CLOCK_MONOTONIC; without it the first nvmlInit
 *
 * The file: one setting a line, `#` begins a comment, times in s of the scenario, powers in W.
 *
 *   driver 550.54.15           version (optional)
 *   init 18                    nvmlInit answers this code (optional; 18: library and driver do not match)
 *   gpu NVIDIA H100            a GPU begins; the lines below are its own
 *   arch 9                     2 Kepler, 4 Pascal, 5 Volta, 6 Turing, 7 Ampere, 8 Ada, 9 Hopper (default)
 *   uuid GPU-...               default GPU-fake0000-0000-0000-0000-00000000000N
 *   limit_w 700                power limit
 *   counter 0                  there is no energy counter (default 1)
 *   fields 0                   there are no power fields 185 and 186 (default 1)
 *   counter_ms 100             the counter moves that often (default 20)
 *   power_ms 100               the power sensor likewise (default 100)
 *   latency_us 500             every call of this GPU takes that long, and its value is of the call's end (default 0)
 *   wave 0 const 300           from scenario time 0 on, until the next wave: constant
 *   wave 5 square 2 0.5 50 400     period, share of it that is high (high comes first), low, high
 *   wave 20 ramp 50 400 10     from, to, seconds; then it stays
 *   fault 3 4 lost [energy|power]  between 3 and 4 (or `-`: for ever) calls, or only those of that kind, answer:
 *                              lost unknown timeout nosupport noperm reset; `hang`: they block until the time is over
 *                              A time may be `@N`: the GPU's N-th reading of energy or power, the first being @1
 *
 * A function that is not here is really absent. Power is instantaneous as of the last refresh; field 185 and, on
 * Ampere without GA100 and newer, nvmlDeviceGetPowerUsage are means of the last second, as nvml.h has it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define API __attribute__((visibility("default"))) int
enum { OK, UNINITIALIZED, INVALID, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9, TIMEOUT,
       GPU_IS_LOST = 15, RESET_REQUIRED, UNKNOWN = 999, HANG = -1 };
enum kind { CONST, SQUARE, RAMP };
enum scope { ALL, ENERGY, POWER, OTHER };
enum { MAX_GPUS = 16, MAX_WAVES = 64, MAX_FAULTS = 16, TEXT = 96, AMPERE = 7 };

struct wave { double at, a, b, c, d; enum kind kind; };
struct bound { double at; int is_reading; };
struct fault { struct bound from, to; int code; enum scope scope; };
struct gpu {
    char name[TEXT], uuid[TEXT];
    int index, arch, counter, fields, waves, faults, readings;
    double limit_w, counter_s, power_s, latency_s;
    struct wave wave[MAX_WAVES];
    struct fault fault[MAX_FAULTS];
};

static struct gpu gpus[MAX_GPUS];
static int count, init_code, references, loaded;
static long long t0_ns;
static char driver[TEXT] = "550.54.15";
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long long monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static double scenario_s(void) { return (monotonic_ns() - t0_ns) * 1e-9; }

static void sleep_until(double at_s) {
    long long ns = t0_ns + (long long)(at_s * 1e9);
    struct timespec until = {ns / 1000000000LL, ns % 1000000000LL};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {}
}

/* ---- the waves: power at x seconds after a wave's begin, and its integral from 0 to x ---- */

static double wave_w(const struct wave *w, double x) {
    switch (w->kind) {
    case CONST: return w->a;
    case SQUARE: return x - floor(x / w->a) * w->a < w->b * w->a ? w->d : w->c;
    case RAMP: return x < w->c ? w->a + (w->b - w->a) * (x / w->c) : w->b;
    }
    return 0;
}

static double wave_j(const struct wave *w, double x) {
    switch (w->kind) {
    case CONST: return w->a * x;
    case SQUARE: {
        double whole = floor(x / w->a), rest = x - whole * w->a, high = w->b * w->a;
        return whole * (high * w->d + (w->a - high) * w->c) + fmin(rest, high) * w->d + fmax(rest - high, 0) * w->c;
    }
    case RAMP: {
        double rising = fmin(x, w->c), flat = fmax(x - w->c, 0);
        return w->a * rising + (w->b - w->a) * rising * rising / (2 * w->c) + w->b * flat;
    }
    }
    return 0;
}

static double power_w(const struct gpu *g, double t) {
    double watts = 0;
    for (int i = 0; i < g->waves && g->wave[i].at <= t; i++) watts = wave_w(&g->wave[i], t - g->wave[i].at);
    return watts;
}

static double energy_j(const struct gpu *g, double t) {
    double joules = 0;
    for (int i = 0; i < g->waves && g->wave[i].at < t; i++) {
        double end = i + 1 < g->waves && g->wave[i + 1].at < t ? g->wave[i + 1].at : t;
        joules += wave_j(&g->wave[i], end - g->wave[i].at);
    }
    return joules;
}

static double refreshed(double t, double step) { return step > 0 ? floor(t / step) * step : t; }

static unsigned milliwatts(const struct gpu *g, double window_s) {
    double t = refreshed(scenario_s(), g->power_s);
    double watts = window_s > 0 ? (energy_j(g, t) - energy_j(g, t - window_s)) / window_s : power_w(g, t);
    return (unsigned)(watts * 1000 + 0.5);
}

/* ---- the scenario ---- */

static void fail(const char *file, int number, const char *line) {
    fprintf(stderr, "fake NVML: %s:%d is not understood: %s\n", file, number, line);
    abort();
}

static int fault_code(const char *word) {
    static const struct { const char *word; int code; } words[] = {
        {"lost", GPU_IS_LOST}, {"unknown", UNKNOWN}, {"timeout", TIMEOUT}, {"nosupport", NOT_SUPPORTED},
        {"noperm", NO_PERMISSION}, {"reset", RESET_REQUIRED}, {"hang", HANG}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(word, words[i].word)) return words[i].code;
    return 0;
}

static int parse_wave(struct gpu *g, const char *args) {
    struct wave *w = &g->wave[g->waves];
    if (g->waves == MAX_WAVES) return 0;
    if (sscanf(args, "%lf const %lf", &w->at, &w->a) == 2) w->kind = CONST;
    else if (sscanf(args, "%lf square %lf %lf %lf %lf", &w->at, &w->a, &w->b, &w->c, &w->d) == 5) w->kind = SQUARE;
    else if (sscanf(args, "%lf ramp %lf %lf %lf", &w->at, &w->a, &w->b, &w->c) == 4) w->kind = RAMP;
    else return 0;
    g->waves++;
    return 1;
}

static struct bound bound(const char *word) {
    int is_reading = *word == '@';
    return (struct bound){strcmp(word, "-") ? atof(word + is_reading) : INFINITY, is_reading};
}

static int parse_fault(struct gpu *g, const char *args) {
    struct fault *f = &g->fault[g->faults];
    char from[32], to[32], word[32], scope[32] = "";
    if (g->faults == MAX_FAULTS || sscanf(args, "%31s %31s %31s %31s", from, to, word, scope) < 3) return 0;
    f->from = bound(from);
    f->to = bound(to);
    f->code = fault_code(word);
    f->scope = !*scope ? ALL : !strcmp(scope, "energy") ? ENERGY : !strcmp(scope, "power") ? POWER : OTHER;
    g->faults++;
    return f->code && f->scope != OTHER;
}

static int parse_line(const char *key, const char *args) {
    struct gpu *g = count ? &gpus[count - 1] : NULL;
    if (!strcmp(key, "driver")) return snprintf(driver, sizeof driver, "%s", args) > 0;
    if (!strcmp(key, "init")) return (init_code = atoi(args)) > 0;
    if (!strcmp(key, "gpu")) {
        if (count == MAX_GPUS) return 0;
        g = &gpus[count];
        *g = (struct gpu){.index = count++, .arch = 9, .counter = 1, .fields = 1, .limit_w = 700, .counter_s = 0.02,
                          .power_s = 0.1};
        snprintf(g->name, sizeof g->name, "%s", args);
        snprintf(g->uuid, sizeof g->uuid, "GPU-fake0000-0000-0000-0000-%012d", g->index);
        return 1;
    }
    if (!g) return 0;
    if (!strcmp(key, "uuid")) return snprintf(g->uuid, sizeof g->uuid, "%s", args) > 0;
    if (!strcmp(key, "wave")) return parse_wave(g, args);
    if (!strcmp(key, "fault")) return parse_fault(g, args);
    char *end;
    double number = strtod(args, &end);
    if (end == args) return 0;
    if (!strcmp(key, "arch")) g->arch = (int)number;
    else if (!strcmp(key, "counter")) g->counter = (int)number;
    else if (!strcmp(key, "fields")) g->fields = (int)number;
    else if (!strcmp(key, "limit_w")) g->limit_w = number;
    else if (!strcmp(key, "counter_ms")) g->counter_s = number * 1e-3;
    else if (!strcmp(key, "power_ms")) g->power_s = number * 1e-3;
    else if (!strcmp(key, "latency_us")) g->latency_s = number * 1e-6;
    else return 0;
    return 1;
}

static int load(void) {
    const char *path = getenv("AIOCARBON_FAKE_NVML"), *zero = getenv("AIOCARBON_FAKE_NVML_T0");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256], key[32];
    if (!file) return DRIVER_NOT_LOADED;
    for (int number = 1; fgets(line, sizeof line, file); number++) {
        int skip = 0;
        line[strcspn(line, "#\r\n")] = 0;
        for (size_t n = strlen(line); n && (line[n - 1] == ' ' || line[n - 1] == '\t');) line[--n] = 0;
        if (sscanf(line, " %31s %n", key, &skip) < 1) continue;
        if (!parse_line(key, line + skip)) fail(path, number, line);
    }
    fclose(file);
    t0_ns = zero && *zero ? atoll(zero) : monotonic_ns();
    loaded = 1;
    return OK;
}

/* ---- NVML ---- */

API nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    int code = loaded ? OK : load();
    if (code == OK) code = init_code;
    if (code == OK) references++;
    pthread_mutex_unlock(&lock);
    return code;
}

API nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

API nvmlShutdown(void) {
    pthread_mutex_lock(&lock);
    int code = references > 0 ? OK : UNINITIALIZED;
    if (code == OK) references--;
    pthread_mutex_unlock(&lock);
    return code;
}

__attribute__((visibility("default"))) const char *nvmlErrorString(int code) {
    switch (code) {
    case OK: return "Success";
    case NOT_SUPPORTED: return "Not Supported";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "fake NVML error";
    }
}

static int put(char *out, unsigned size, const char *text) {
    return (unsigned)snprintf(out, size, "%s", text) < size ? OK : 7;
}

/* What every call of a GPU does first: takes its time, meets its faults. */
static int enter(struct gpu *g, enum scope scope) {
    if (__atomic_load_n(&references, __ATOMIC_ACQUIRE) <= 0) return UNINITIALIZED;
    if (g < gpus || g >= gpus + count) return INVALID;
    if (g->latency_s > 0) sleep_until(scenario_s() + g->latency_s);
    int readings = __atomic_add_fetch(&g->readings, scope != OTHER, __ATOMIC_ACQ_REL);
    double now = scenario_s();
    for (int i = 0; i < g->faults; i++) {
        const struct fault *f = &g->fault[i];
        if ((f->from.is_reading ? readings : now) < f->from.at || (f->to.is_reading ? readings : now) >= f->to.at) continue;
        if (f->scope != ALL && f->scope != scope) continue;
        if (f->code != HANG) return f->code;
        while (isinf(f->to.at) || f->to.is_reading) sleep_until(scenario_s() + 3600);
        sleep_until(f->to.at);
    }
    return OK;
}

#define ENTER(g, scope) do { int code_ = enter(g, scope); if (code_ != OK) return code_; } while (0)

API nvmlSystemGetDriverVersion(char *out, unsigned size) { return references > 0 ? put(out, size, driver) : UNINITIALIZED; }
API nvmlSystemGetNVMLVersion(char *out, unsigned size) { return nvmlSystemGetDriverVersion(out, size); }

API nvmlDeviceGetCount_v2(unsigned *n) {
    *n = count;
    return references > 0 ? OK : UNINITIALIZED;
}

API nvmlDeviceGetHandleByIndex_v2(unsigned i, struct gpu **out) {
    if (references <= 0) return UNINITIALIZED;
    if (i >= (unsigned)count) return INVALID;
    *out = &gpus[i];
    return enter(*out, OTHER);
}

API nvmlDeviceGetHandleByUUID(const char *uuid, struct gpu **out) {
    for (int i = 0; i < count; i++)
        if (!strcmp(gpus[i].uuid, uuid)) return nvmlDeviceGetHandleByIndex_v2(i, out);
    return references > 0 ? NOT_FOUND : UNINITIALIZED;
}

API nvmlDeviceGetUUID(struct gpu *g, char *out, unsigned size) { ENTER(g, OTHER); return put(out, size, g->uuid); }
API nvmlDeviceGetName(struct gpu *g, char *out, unsigned size) { ENTER(g, OTHER); return put(out, size, g->name); }
API nvmlDeviceGetIndex(struct gpu *g, unsigned *out) { ENTER(g, OTHER); *out = g->index; return OK; }
API nvmlDeviceGetArchitecture(struct gpu *g, unsigned *out) { ENTER(g, OTHER); *out = g->arch; return OK; }

struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };

API nvmlDeviceGetPciInfo_v3(struct gpu *g, struct pci *out) {
    ENTER(g, OTHER);
    *out = (struct pci){.bus = g->index + 1};
    snprintf(out->legacy, sizeof out->legacy, "0000:%02X:00.0", out->bus & 0xFF);
    snprintf(out->bus_id, sizeof out->bus_id, "00000000:%02X:00.0", out->bus);
    return OK;
}

API nvmlDeviceGetMigMode(struct gpu *g, unsigned *current, unsigned *pending) {
    (void)current, (void)pending;
    ENTER(g, OTHER);
    return NOT_SUPPORTED;
}

API nvmlDeviceGetEnforcedPowerLimit(struct gpu *g, unsigned *mw) { ENTER(g, OTHER); *mw = g->limit_w * 1000; return OK; }

API nvmlDeviceGetPowerManagementLimitConstraints(struct gpu *g, unsigned *low, unsigned *high) {
    ENTER(g, OTHER);
    *low = g->limit_w * 250;
    *high = g->limit_w * 1000;
    return OK;
}

API nvmlDeviceGetTotalEnergyConsumption(struct gpu *g, unsigned long long *mj) {
    ENTER(g, ENERGY);
    if (!g->counter) return NOT_SUPPORTED;
    *mj = (unsigned long long)(energy_j(g, refreshed(scenario_s(), g->counter_s)) * 1000);
    return OK;
}

static int is_averaged(const struct gpu *g) {
    return g->arch > AMPERE || (g->arch == AMPERE && !strstr(g->name, "A100") && !strstr(g->name, "A30"));
}

API nvmlDeviceGetPowerUsage(struct gpu *g, unsigned *mw) {
    ENTER(g, POWER);
    *mw = milliwatts(g, is_averaged(g) ? 1 : 0);
    return OK;
}

struct field { unsigned id, scope; long long at_us, latency_us; unsigned type; int code; union { unsigned ui; unsigned long long ull; } value; };

API nvmlDeviceGetFieldValues(struct gpu *g, int n, struct field *f) {
    ENTER(g, OTHER);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (int i = 0; i < n; i++) {
        int is_energy = f[i].id == 83, is_power = f[i].id == 185 || f[i].id == 186;
        f[i].at_us = now.tv_sec * 1000000LL + now.tv_nsec / 1000;
        f[i].latency_us = 0;
        f[i].type = is_energy ? 3 : 1;
        f[i].code = is_energy ? nvmlDeviceGetTotalEnergyConsumption(g, &f[i].value.ull)
                    : !is_power || !g->fields || f[i].scope ? NOT_SUPPORTED : enter(g, POWER);
        if (is_power && f[i].code == OK) f[i].value.ui = milliwatts(g, f[i].id == 185 ? 1 : 0);
    }
    return OK;
}

API nvmlDeviceGetSamples(struct gpu *g, int type, unsigned long long since, int *value_type, unsigned *n, void *out) {
    (void)type, (void)since, (void)value_type, (void)n, (void)out;
    ENTER(g, POWER);
    return NOT_SUPPORTED;
}

API nvmlDeviceGetProcessUtilization(struct gpu *g, void *out, unsigned *n, unsigned long long since) {
    (void)out, (void)n, (void)since;
    ENTER(g, OTHER);
    return NOT_FOUND;
}

API nvmlDeviceGetComputeRunningProcesses_v3(struct gpu *g, unsigned *n, void *out) {
    (void)out;
    ENTER(g, OTHER);
    *n = 0;
    return OK;
}

API nvmlDeviceGetGraphicsRunningProcesses_v3(struct gpu *g, unsigned *n, void *out) {
    return nvmlDeviceGetComputeRunningProcesses_v3(g, n, out);
}

/* What no meter of ours asks for and other tools do before they read any energy: a board at rest in all but its power. */
struct memory { unsigned long long total, free, used; };
struct rates { unsigned gpu, memory; };

API nvmlDeviceGetMemoryInfo(struct gpu *g, struct memory *out) {
    ENTER(g, OTHER);
    *out = (struct memory){.total = 80ULL << 30, .free = 79ULL << 30, .used = 1ULL << 30};
    return OK;
}

API nvmlDeviceGetTemperature(struct gpu *g, int sensor, unsigned *celsius) {
    (void)sensor;
    ENTER(g, OTHER);
    *celsius = 45;
    return OK;
}

API nvmlDeviceGetUtilizationRates(struct gpu *g, struct rates *out) { ENTER(g, OTHER); *out = (struct rates){50, 10}; return OK; }
API nvmlDeviceGetComputeMode(struct gpu *g, int *mode) { ENTER(g, OTHER); *mode = 0; return OK; }
