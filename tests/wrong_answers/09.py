"""Plausible wrong answers to the exercises of notebook 09: every one must be graded "wrong", with a hint."""

WRONG = {
    "09.1": [
        "def percentile(values, percent):\n    return sorted(values)[len(values) * percent // 100 - 2]",
        "def percentile(values, percent):\n    return values[-(-len(values) * percent // 100) - 1]",
        "def percentile(values, percent):\n    return max(values) * percent / 100",
        "def percentile(values, percent):\n    values.sort()\n    return values[-(-len(values) * percent // 100) - 1]",
        "def percentile(values, percent):\n    return torch.tensor(values).median()",
    ],
    "09.2": [
        "def misfits(found, wanted):\n    return sorted(found.keys() ^ wanted.keys())",
        "def misfits(found, wanted):\n    return sorted(name for name in wanted if found.get(name) != wanted[name])",
        "def misfits(found, wanted):\n    return sorted(name for name in found if found[name] != wanted.get(name))",
        "def misfits(found, wanted):\n    return sorted(found.items() ^ wanted.items())",
        "def misfits(found, wanted):\n    return found != wanted",
    ],
    "09.3": [
        "def decide(ranked, threshold, margin):\n    return ranked[0][0] if ranked[0][1] >= threshold else 'not sure'",
        "def decide(ranked, threshold, margin):\n"
        "    first, second = ranked[0][1], ranked[1][1]\n"
        "    return 'not sure' if first < threshold and first - second < margin else ranked[0][0]",
        "def decide(ranked, threshold, margin):\n"
        "    first, second = ranked[0][1], ranked[1][1]\n"
        "    return 'not sure' if first <= threshold or first - second < margin else ranked[0][0]",
        "def decide(ranked, threshold, margin):\n    return ranked[0][0]",
    ],
    "09.4": [
        "def choose(candidates, criteria):\n    return [name for name, row in candidates.items() if row['accuracy'] >= criteria['accuracy']]",
        "def choose(candidates, criteria):\n    return sorted(name for name, row in candidates.items() if row['accuracy'] >= criteria['accuracy'] and row['latency'] <= criteria['latency'] and row['size'] <= criteria['size'])[::-1]",
        "def choose(candidates, criteria):\n    return sorted((name for name, row in candidates.items() if row['accuracy'] > criteria['accuracy'] and row['latency'] < criteria['latency'] and row['size'] < criteria['size']), key=lambda name: -candidates[name]['accuracy'])",
        "def choose(candidates, criteria):\n    return [name for name, row in candidates.items() if all(row[key] <= bar for key, bar in criteria.items())]",
    ],
    "09.5": [
        "def to_int8(values):\n    scale = values.abs().max() / 127\n    return (values / scale).to(torch.int8), scale",
        "def to_int8(values):\n    scale = values.max() / 127\n    return (values / scale).round().clamp(-127, 127).to(torch.int8), scale",
        "def to_int8(values):\n    scale = values.abs().max() / 127\n    return (values / scale).round(), scale",
        "def to_int8(values):\n    scale = values.abs().max() / 127\n    return (values / scale).round().to(torch.int8), scale",
    ],
}
