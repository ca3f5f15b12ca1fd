"""Whether a series of samples grows: the slope of a line through it, and how sure that is.

The slope is the Theil-Sen estimate, the median of the slopes between all pairs of points, with Sen's confidence interval
from the variance of Kendall's S, corrected for ties (P. K. Sen 1968, Journal of the American Statistical Association 63).
It asks for no distribution, and a few outliers do not move it. Samples of a process depend on those just before them; so the
points are the medians of equal stretches of time.

    A sawtooth of 256 KiB and noise of 64 KiB for an hour, a sample each second, with nothing else; with a leak of 32 bytes a
    second, which in the hour is less than half a tooth; with the opposite of a leak:

    >>> import random
    >>> generator = random.Random(35)
    >>> noise = [(t, 4 << 20 | t % 97 * 2700 + generator.randrange(1 << 16)) for t in range(3600)]
    >>> [grows(interval([(t, y + leak * t) for t, y in noise])) for leak in (0, 32, -32)]
    [False, True, False]

    What is flat but for one step, such as an allocator's next arena, is no leak, and a page now and then is one:

    >>> step = [(t, 4 << 20 | (t > 1200) << 16) for t in range(3600)]
    >>> pages = [(t, 4 << 20 | t // 600 << 12) for t in range(3600)]
    >>> grows(interval(step)), grows(interval(pages)), interval([(t, 7) for t in range(3600)])
    (False, True, (0.0, 0.0, 0.0))

    The interval holds the true slope:

    >>> slope, low, high = interval([(t, y + 32 * t) for t, y in noise])
    >>> low < 32 < high
    True
"""

import collections
import math
import statistics

#: Into how many stretches a series is cut.
STRETCHES = 60
#: The quantile of the normal distribution for two sides of 99 %.
Z = 2.576


def stretches(samples, count=STRETCHES):
    """The medians of `count` equal stretches of time, of (time, value) in the order of time; those without a sample are left out."""
    begin, end = samples[0][0], samples[-1][0]
    parts = collections.defaultdict(list)
    for time, value in samples:
        parts[min(count - 1, int((time - begin) / (end - begin) * count))].append((time, value))
    return [tuple(map(statistics.median, zip(*part))) for _, part in sorted(parts.items())]


def interval(samples):
    """The slope through (time, value), in values per unit of time, and the ends of its 99 % confidence interval."""
    points = stretches(samples)
    slopes = sorted(
        (b - a) / (u - t) for at, (t, a) in enumerate(points) for u, b in points[at + 1 :]
    )
    count = len(points)
    ties = collections.Counter(value for _, value in points).values()
    term = lambda n: n * (n - 1) * (2 * n + 5)
    spread = Z * math.sqrt((term(count) - sum(map(term, ties))) / 18)
    low = slopes[max(0, math.floor((len(slopes) - spread) / 2))]
    high = slopes[min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))]
    return statistics.median(slopes), low, high


def grows(slope_and_ends):
    """Whether all of the interval is above zero."""
    return slope_and_ends[1] > 0
