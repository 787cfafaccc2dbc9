// pg-boss: `pg_boss.mjs URI chains|jobs COUNT` prints how many a second it completes.
//
// All are created in bulk beforehand. Batches of 1,000 are fetched and completed by four loops without the pauses of
// work(); dependents are unblocked whenever the loops run dry (resolveFlow), which pg-boss by itself does once a second.

import { PgBoss } from 'pg-boss';

const [uri, what, text] = process.argv.slice(2);
const count = Number(text);
const BATCH = 1000;
const LOOPS = 4;
const QUEUE = 'bench';

const boss = new PgBoss({ connectionString: uri, max: LOOPS + 2, supervise: false, schedule: false });
boss.on('error', console.error);
await boss.start();
await boss.createQueue(QUEUE);

function chain(number) {
    const step = (at) => ({
        ref: `${number}-${at}`,
        name: QUEUE,
        dependsOn: at > 0 ? [`${number}-${at - 1}`] : [],
    });
    return [step(0), step(1), step(2)];
}

for (let first = 0; first < count; first += BATCH) {
    const numbers = Array.from({ length: Math.min(BATCH, count - first) }, (_, i) => first + i);
    if (what === 'chains')
        await boss.flow(numbers.flatMap(chain));
    else
        await boss.insert(QUEUE, numbers.map(() => ({})));
}

let left = what === 'chains' ? 3 * count : count;

async function drain() {
    for (;;) {
        const jobs = await boss.fetch(QUEUE, { batchSize: BATCH });
        if (jobs.length === 0)
            return;
        await boss.complete(QUEUE, jobs.map((job) => job.id));
        left -= jobs.length;
    }
}

const begin = performance.now();
while (left > 0) {
    await Promise.all(Array.from({ length: LOOPS }, drain));
    if (what === 'chains')
        await boss.resolveFlow();
}
console.log(count / (performance.now() - begin) * 1000);
await boss.stop({ graceful: false });
process.exit();
