/** noded's version, from the package it is part of. */
import {readFileSync} from 'node:fs';
import {join} from 'node:path';

export const version = (JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8')) as {version: string}).version;
