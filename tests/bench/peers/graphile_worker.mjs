// graphile-worker: `graphile_worker.mjs URI chains|jobs COUNT` prints how many a second it completes.
//
// All first steps are added in bulk beforehand; a chain is a job that adds the next one, since there are no
// dependencies. Two processes with the settings of its own performance guide (local queue, completions in batches), each
// of them this program again.

import { spawn } from 'node:child_process';
import { makeWorkerUtils, run } from 'graphile-worker';

const [uri, what, text, role] = process.argv.slice(2);
const count = Number(text);
const BATCH = 1000;
const STEPS = 3;
const PROCESSES = 2;

const preset = {
    worker: {
        connectionString: uri,
        concurrentJobs: 24,
        maxPoolSize: 25,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
    },
};

async function work() {
    const silent = { error: console.error, warn() {}, info() {}, debug() {} };
    const { Logger } = await import('graphile-worker');
    await run({
        preset,
        logger: new Logger(() => (level, message) => silent[level]?.(message)),
        taskList: {
            job: async () => {},
            step: async ({ at }, { addJob }) => {
                if (at < STEPS)
                    await addJob('step', { at: at + 1 });
            },
        },
    });
}

async function measure() {
    const utils = await makeWorkerUtils({ connectionString: uri });
    await utils.migrate();
    for (let first = 0; first < count; first += BATCH) {
        const spec = what === 'chains' ? { identifier: 'step', payload: { at: 1 } } : { identifier: 'job', payload: {} };
        await utils.addJobs(Array.from({ length: Math.min(BATCH, count - first) }, () => spec));
    }
    // A finished job is deleted.
    const left = () => utils.withPgClient(async (client) => {
        const { rows } = await client.query('SELECT count(*)::int AS n FROM graphile_worker._private_jobs');
        return rows[0].n;
    });
    const workers = Array.from({ length: PROCESSES }, () =>
        spawn(process.execPath, [process.argv[1], uri, what, text, 'worker'], { stdio: ['ignore', 'ignore', 'inherit'] }));
    // From the first one that is gone: Node's own start does not count.
    let now;
    let first = count;
    let begin;
    while ((now = await left()) > 0) {
        if (begin === undefined && (now < count || what === 'chains')) {
            begin = performance.now();
            first = now;
        }
        await new Promise((resolve) => setTimeout(resolve, 10));
    }
    console.log(first / (performance.now() - begin) * 1000);
    for (const worker of workers)
        worker.kill('SIGKILL');
    process.exit();
}

await (role === 'worker' ? work() : measure());
